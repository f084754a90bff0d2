package platform.orders.stock;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.TreeSet;

/**
 * The stock ledger: append-only rows, and one counter row per (site, sku) that is the lock.
 *
 * <h3>Lock order</h3>
 * SITE first, then SKU in ascending byte order, then (RefundDesk only) order_money. Whoever needs several
 * SKUs takes them through {@link #lockAll}, which sorts. Two sites: the lower site id first. There is no
 * lock timeout on the primary; a cycle means the detector kills one of the two after a second, and the
 * pick wave that was killed is re-planned from scratch. So: do not invent an order of your own.
 *
 * <h3>Units</h3>
 * Always eaches. A case of 12 is 12. {@code delta < 0} takes stock away. on_hand never goes below zero;
 * the table has a check for it, but by then the transaction is lost, so look before you write.
 *
 * <h3>Reading</h3>
 * {@link #peek} goes to the replica and is seconds old (minutes, in the sale week). Good for a web page.
 * A decision to promise, move or write off goods is made on what {@link #lockAndRead} returned, inside
 * the same transaction.
 */
public final class StockLedger {

    /** Why a row exists. Finance groups by it; do not reuse a reason because it is "close enough". */
    public enum Reason { RECEIPT, HOLD, HOLD_BACK, SHIP, MOVE_OUT, MOVE_IN, COUNT, SCRAP }

    public record Level(long site, String sku, long onHand, long held, long version) {
        /** What can be promised to somebody else. */
        public long free() {
            return onHand - held;
        }
    }

    public record Entry(long site, String sku, long delta, Reason reason, String ref) {}

    private final Replica replica;

    public StockLedger(Replica replica) {
        this.replica = replica;
    }

    /** Replica. May be old. Never decide on it. */
    public Level peek(long site, String sku) throws SQLException {
        try (Connection c = replica.open()) {
            return read(c, site, sku, "");
        }
    }

    /** Takes the row lock and returns the level under it. {@code c} must be inside a transaction. */
    public Level lockAndRead(Connection c, long site, String sku) throws SQLException {
        requireTx(c);
        return read(c, site, sku, " for update");
    }

    /** Locks every sku at the site in the one order that is safe. Duplicates are fine. */
    public List<Level> lockAll(Connection c, long site, Collection<String> skus) throws SQLException {
        requireTx(c);
        List<Level> out = new ArrayList<>();
        for (String sku : new TreeSet<>(skus)) {
            out.add(lockAndRead(c, site, sku));
        }
        return out;
    }

    /**
     * Appends one row and moves the counter. Idempotent on (ref, reason, sku, site): a second append with
     * the same four is a no-op and returns false, which callers treat as "already done", not as an error.
     *
     * The caller holds the lock on the counter row. That is not checked here because it cannot be, cheaply.
     */
    public boolean append(Connection c, Entry e) throws SQLException {
        requireTx(c);
        if (e.delta() == 0) {
            return false;
        }
        try (PreparedStatement ins = c.prepareStatement(
                "insert into stock_entry (site_id, sku, delta, reason, ref) values (?,?,?,?,?) "
                        + "on conflict (ref, reason, sku, site_id) do nothing")) {
            ins.setLong(1, e.site());
            ins.setString(2, e.sku());
            ins.setLong(3, e.delta());
            ins.setString(4, e.reason().name());
            ins.setString(5, e.ref());
            if (ins.executeUpdate() == 0) {
                return false;
            }
        }
        String column = switch (e.reason()) {
            case HOLD, HOLD_BACK -> "held = held + (-1 * ?)"; // a HOLD has delta < 0 and raises held
            default -> "on_hand = on_hand + ?";
        };
        try (PreparedStatement up = c.prepareStatement(
                "update stock_level set " + column + ", version = version + 1 where site_id = ? and sku = ?")) {
            up.setLong(1, e.delta());
            up.setLong(2, e.site());
            up.setString(3, e.sku());
            if (up.executeUpdate() != 1) {
                throw new SQLException("no level row for site " + e.site() + " sku " + e.sku());
            }
        }
        return true;
    }

    /**
     * Moves goods between two sites. Both rows are in one transaction; the ref is the transfer order.
     * Returns false if there is not enough that is free (not held) at the source.
     */
    public boolean move(Connection c, long from, long to, String sku, long units, String ref) throws SQLException {
        if (units <= 0 || from == to) {
            throw new IllegalArgumentException("move of " + units + " from " + from + " to " + to);
        }
        long first = Math.min(from, to);
        long second = Math.max(from, to);
        Level a = lockAndRead(c, first, sku);
        Level b = lockAndRead(c, second, sku);
        Level source = a.site() == from ? a : b;
        if (source.free() < units) {
            return false;
        }
        append(c, new Entry(from, sku, -units, Reason.MOVE_OUT, ref));
        append(c, new Entry(to, sku, units, Reason.MOVE_IN, ref));
        return true;
    }

    /** A count corrects the book to what a person saw. The difference is the row, not the total. */
    public long count(Connection c, long site, String sku, long seen, String ref) throws SQLException {
        Level at = lockAndRead(c, site, sku);
        long diff = seen - at.onHand();
        append(c, new Entry(site, sku, diff, Reason.COUNT, ref));
        return diff;
    }

    private static Level read(Connection c, long site, String sku, String suffix) throws SQLException {
        try (PreparedStatement q = c.prepareStatement(
                "select on_hand, held, version from stock_level where site_id = ? and sku = ?" + suffix)) {
            q.setLong(1, site);
            q.setString(2, sku);
            try (ResultSet r = q.executeQuery()) {
                if (!r.next()) {
                    return new Level(site, sku, 0, 0, 0);
                }
                return new Level(site, sku, r.getLong(1), r.getLong(2), r.getLong(3));
            }
        }
    }

    private static void requireTx(Connection c) throws SQLException {
        if (c.getAutoCommit()) {
            throw new IllegalStateException("stock ledger call outside a transaction");
        }
    }

    /** Read-only connections to a follower. */
    public interface Replica {
        Connection open() throws SQLException;
    }
}
