package platform.orders.stock;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.function.LongSupplier;

/**
 * Holds on stock between "the customer pressed pay" and "the goods are theirs".
 *
 * What callers may rely on:
 * <ul>
 *   <li>{@link #hold} is idempotent on {@code orderRef}. Asking again returns the SAME hold with its OLD
 *       expiry. It never extends; extending would let a stuck client sit on the last pair of shoes.
 *   <li>{@link #confirm} answers CONFIRMED, ALREADY or GONE. GONE is final. It is mapped to HTTP 410 and the
 *       TypeScript side turns that into a `gone` fault. There is no "un-gone": make a new hold.
 *   <li>{@link #release} never throws for a hold that is unknown, expired or confirmed. It is called from
 *       unwind paths which have enough trouble already.
 *   <li>Expiry is exclusive: at {@code expiresAtMs} exactly, the hold is gone.
 * </ul>
 * Time is the primary's clock, handed in as {@code now}. Not the JVM's: the sweeper and the API run on
 * different machines and 400 ms of skew once sold eleven items twice.
 */
public final class ReservationDesk {

    public static final long HOLD_TTL_MS = 15 * 60_000L;
    private static final int SWEEP_BATCH = 200;

    public enum Confirmation { CONFIRMED, ALREADY, GONE }

    public record Line(String sku, long units) {}

    public record Hold(String id, String orderRef, long site, long expiresAtMs, State state) {}

    public enum State { OPEN, CONFIRMED, RELEASED, EXPIRED }

    private final StockLedger ledger;
    private final LongSupplier now;
    private final Ids ids;

    public ReservationDesk(StockLedger ledger, LongSupplier primaryClockMs, Ids ids) {
        this.ledger = ledger;
        this.now = primaryClockMs;
        this.ids = ids;
    }

    /** Null when there is not enough free stock. All lines or none. */
    public Hold hold(Connection c, String orderRef, long site, List<Line> lines) throws SQLException {
        Hold before = findByRef(c, orderRef);
        if (before != null) {
            return before;
        }
        SortedMap<String, Long> want = new TreeMap<>();
        for (Line l : lines) {
            want.merge(l.sku(), l.units(), Long::sum);
        }
        List<StockLedger.Level> levels = ledger.lockAll(c, site, want.keySet());
        for (StockLedger.Level level : levels) {
            if (level.free() < want.get(level.sku())) {
                return null;
            }
        }
        Hold made = new Hold(ids.next("hold"), orderRef, site, now.getAsLong() + HOLD_TTL_MS, State.OPEN);
        if (!insert(c, made)) {
            return findByRef(c, orderRef); // lost the race on the unique ref; the winner's hold is ours too
        }
        for (Map.Entry<String, Long> e : want.entrySet()) {
            ledger.append(c, new StockLedger.Entry(site, e.getKey(), -e.getValue(), StockLedger.Reason.HOLD, made.id()));
        }
        return made;
    }

    public Confirmation confirm(Connection c, String holdId) throws SQLException {
        Hold h = lock(c, holdId);
        if (h == null) {
            return Confirmation.GONE;
        }
        if (h.state() == State.CONFIRMED) {
            return Confirmation.ALREADY;
        }
        if (h.state() != State.OPEN || now.getAsLong() >= h.expiresAtMs()) {
            return Confirmation.GONE;
        }
        setState(c, holdId, State.CONFIRMED);
        return Confirmation.CONFIRMED;
    }

    public void release(Connection c, String holdId) throws SQLException {
        Hold h = lock(c, holdId);
        if (h == null || h.state() != State.OPEN) {
            return;
        }
        giveBack(c, h, State.RELEASED);
    }

    /**
     * Run every 20 s, on one node at a time (lease in the scheduler), but correct if two run: each hold is
     * locked and looked at again before anything is given back. SKIP LOCKED, because a hold that somebody
     * is confirming right now is not ours to expire.
     */
    public int sweep(Connection c) throws SQLException {
        List<String> due = new ArrayList<>();
        try (PreparedStatement q = c.prepareStatement(
                "select id from hold where state = 'OPEN' and expires_at_ms <= ? "
                        + "order by expires_at_ms limit ? for update skip locked")) {
            q.setLong(1, now.getAsLong());
            q.setInt(2, SWEEP_BATCH);
            try (ResultSet r = q.executeQuery()) {
                while (r.next()) {
                    due.add(r.getString(1));
                }
            }
        }
        for (String id : due) {
            giveBack(c, lock(c, id), State.EXPIRED);
        }
        return due.size();
    }

    private void giveBack(Connection c, Hold h, State to) throws SQLException {
        SortedMap<String, Long> lines = linesOf(c, h.id());
        ledger.lockAll(c, h.site(), lines.keySet());
        for (Map.Entry<String, Long> e : lines.entrySet()) {
            ledger.append(c, new StockLedger.Entry(
                    h.site(), e.getKey(), e.getValue(), StockLedger.Reason.HOLD_BACK, h.id()));
        }
        setState(c, h.id(), to);
    }

    private SortedMap<String, Long> linesOf(Connection c, String holdId) throws SQLException {
        SortedMap<String, Long> out = new TreeMap<>();
        try (PreparedStatement q = c.prepareStatement(
                "select sku, -delta from stock_entry where ref = ? and reason = 'HOLD'")) {
            q.setString(1, holdId);
            try (ResultSet r = q.executeQuery()) {
                while (r.next()) {
                    out.put(r.getString(1), r.getLong(2));
                }
            }
        }
        return out;
    }

    private Hold findByRef(Connection c, String ref) throws SQLException {
        return one(c, "select id, order_ref, site_id, expires_at_ms, state from hold where order_ref = ?", ref);
    }

    private Hold lock(Connection c, String id) throws SQLException {
        return one(c, "select id, order_ref, site_id, expires_at_ms, state from hold where id = ? for update", id);
    }

    private static Hold one(Connection c, String sql, String arg) throws SQLException {
        try (PreparedStatement q = c.prepareStatement(sql)) {
            q.setString(1, arg);
            try (ResultSet r = q.executeQuery()) {
                return r.next()
                        ? new Hold(r.getString(1), r.getString(2), r.getLong(3), r.getLong(4), State.valueOf(r.getString(5)))
                        : null;
            }
        }
    }

    private static boolean insert(Connection c, Hold h) throws SQLException {
        try (PreparedStatement q = c.prepareStatement(
                "insert into hold (id, order_ref, site_id, expires_at_ms, state) values (?,?,?,?,'OPEN') "
                        + "on conflict (order_ref) do nothing")) {
            q.setString(1, h.id());
            q.setString(2, h.orderRef());
            q.setLong(3, h.site());
            q.setLong(4, h.expiresAtMs());
            return q.executeUpdate() == 1;
        }
    }

    private static void setState(Connection c, String id, State s) throws SQLException {
        try (PreparedStatement q = c.prepareStatement("update hold set state = ? where id = ?")) {
            q.setString(1, s.name());
            q.setString(2, id);
            q.executeUpdate();
        }
    }

    public interface Ids {
        String next(String kind);
    }
}
