package platform.orders.money;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Money back to customers. Three moves, three transactions:
 *
 *   1. intend   row in refund (INTENDED), under the order_money lock. This is where "never more than was
 *               captured" is enforced: sum of every refund that is not REFUSED, plus this one.
 *   2. send     talks to the gateway. NO transaction, NO lock, may take thirty seconds, may be cut off.
 *   3. settle   writes what the gateway said. SENT with no answer stays SENT; the relay asks again by key.
 *
 * Consumers of `refund.wanted` deliver at least once, in any order. `dedupe` of the message is the refund's
 * key: intend is idempotent on it. A second message with the same dedupe and ANOTHER amount is a bug on the
 * sender's side and is refused loudly.
 *
 * Four eyes: above {@link #FOUR_EYES_MINOR} the approver must differ from the requester. Both are ACTORS
 * (op.ts, rule 1): two hats on one head do not count as two people.
 */
public final class RefundDesk {

    private static final Logger LOG = LoggerFactory.getLogger(RefundDesk.class);

    /** In minor units of the order's currency. Yes, that is generous in yen. Ticket exists. */
    static final long FOUR_EYES_MINOR = 50_000;

    public enum State { INTENDED, WAITING_APPROVAL, SENT, DONE, REFUSED }

    public record Refund(String key, String orderId, long amountMinor, String currency, State state, String requestedBy) {}

    public interface Gateway {
        /** Idempotent on key, for 30 days. Empty means: no answer, ask again later. */
        Optional<Boolean> refundMinor(String key, String captureId, long amountMinor, String currency);

        /** What became of this key? Empty means it never arrived. */
        Optional<Boolean> lookup(String key);

        /**
         * @deprecated floats, no key, and it retries inside. Two-decimal currencies only. Batch tool of the
         *     finance desk still links to it; nothing else may.
         */
        @Deprecated
        boolean refund(String captureId, double amountMajor);
    }

    public interface Tx {
        <T> T run(Work<T> work) throws SQLException;

        interface Work<T> {
            T in(Connection c) throws SQLException;
        }
    }

    private final Tx tx;
    private final Gateway gateway;

    public RefundDesk(Tx tx, Gateway gateway) {
        this.tx = tx;
        this.gateway = gateway;
    }

    public Refund intend(String key, String orderId, long amountMinor, String actor) throws SQLException {
        if (amountMinor <= 0) {
            throw new IllegalArgumentException("refund of " + amountMinor + " for order " + orderId);
        }
        return tx.run(c -> {
            Money m = lockMoney(c, orderId);
            Refund before = find(c, key);
            if (before != null) {
                if (before.amountMinor() != amountMinor || !before.orderId().equals(orderId)) {
                    throw new IllegalStateException("refund key " + key + " reused with other content");
                }
                return before;
            }
            if (m.refundedMinor() + amountMinor > m.capturedMinor()) {
                LOG.warn("refund over capture order={} captured={} refunded={} wanted={}",
                        orderId, m.capturedMinor(), m.refundedMinor(), amountMinor);
                return insert(c, new Refund(key, orderId, amountMinor, m.currency(), State.REFUSED, actor));
            }
            State s = amountMinor > FOUR_EYES_MINOR ? State.WAITING_APPROVAL : State.INTENDED;
            return insert(c, new Refund(key, orderId, amountMinor, m.currency(), s, actor));
        });
    }

    public boolean approve(String key, String approver) throws SQLException {
        return tx.run(c -> {
            Refund r = findForUpdate(c, key);
            if (r == null || r.state() != State.WAITING_APPROVAL || r.requestedBy().equals(approver)) {
                return false;
            }
            return setState(c, key, State.WAITING_APPROVAL, State.INTENDED);
        });
    }

    /** Called by the relay for INTENDED and for SENT that is older than two minutes. */
    public State send(String key) throws SQLException {
        Refund r = tx.run(c -> {
            Refund found = findForUpdate(c, key);
            if (found == null || (found.state() != State.INTENDED && found.state() != State.SENT)) {
                return null;
            }
            setState(c, key, found.state(), State.SENT);
            return found;
        });
        if (r == null) {
            return State.REFUSED;
        }
        Optional<Boolean> said = r.state() == State.SENT ? gateway.lookup(key) : Optional.empty();
        if (said.isEmpty()) {
            said = gateway.refundMinor(key, captureIdOf(r.orderId()), r.amountMinor(), r.currency());
        }
        return said.isEmpty() ? State.SENT : settle(key, said.get());
    }

    private State settle(String key, boolean accepted) throws SQLException {
        State to = accepted ? State.DONE : State.REFUSED;
        tx.run(c -> setState(c, key, State.SENT, to));
        return to;
    }

    private record Money(long capturedMinor, long refundedMinor, String currency, String captureId) {}

    private static Money lockMoney(Connection c, String orderId) throws SQLException {
        try (PreparedStatement q = c.prepareStatement(
                "select m.captured_minor, m.currency, m.capture_id, "
                        + "(select coalesce(sum(amount_minor), 0) from refund r "
                        + "  where r.order_id = m.order_id and r.state <> 'REFUSED') "
                        + "from order_money m where m.order_id = ? for update of m")) {
            q.setString(1, orderId);
            try (ResultSet r = q.executeQuery()) {
                if (!r.next()) {
                    throw new SQLException("no money row for order " + orderId);
                }
                return new Money(r.getLong(1), r.getLong(4), r.getString(2), r.getString(3));
            }
        }
    }

    private String captureIdOf(String orderId) throws SQLException {
        return tx.run(c -> lockMoney(c, orderId).captureId());
    }

    private static Refund find(Connection c, String key) throws SQLException {
        return one(c, key, "");
    }

    private static Refund findForUpdate(Connection c, String key) throws SQLException {
        return one(c, key, " for update");
    }

    private static Refund one(Connection c, String key, String suffix) throws SQLException {
        try (PreparedStatement q = c.prepareStatement(
                "select key, order_id, amount_minor, currency, state, requested_by from refund where key = ?" + suffix)) {
            q.setString(1, key);
            try (ResultSet r = q.executeQuery()) {
                return r.next()
                        ? new Refund(r.getString(1), r.getString(2), r.getLong(3), r.getString(4),
                                State.valueOf(r.getString(5)), r.getString(6))
                        : null;
            }
        }
    }

    private static Refund insert(Connection c, Refund r) throws SQLException {
        try (PreparedStatement q = c.prepareStatement(
                "insert into refund (key, order_id, amount_minor, currency, state, requested_by) values (?,?,?,?,?,?)")) {
            q.setString(1, r.key());
            q.setString(2, r.orderId());
            q.setLong(3, r.amountMinor());
            q.setString(4, r.currency());
            q.setString(5, r.state().name());
            q.setString(6, r.requestedBy());
            q.executeUpdate();
        }
        return r;
    }

    private static boolean setState(Connection c, String key, State from, State to) throws SQLException {
        try (PreparedStatement q = c.prepareStatement("update refund set state = ? where key = ? and state = ?")) {
            q.setString(1, to.name());
            q.setString(2, key);
            q.setString(3, from.name());
            return q.executeUpdate() == 1;
        }
    }
}
