package app.platform.audit;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Clock;
import java.time.Instant;
import java.time.LocalDate;
import java.time.Period;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;

/**
 * Who did what to which record. Auditors read this, so: nothing here is ever updated in place, except by
 * {@link #blackOut}, and that leaves a scar on purpose.
 *
 * <p>Callers: one instance per JVM, injected. Do not new it up in controllers (see ADR-31).
 */
public final class AuditTrail {

    public record Actor(String userId, String onBehalfOf, String via) {}

    public record Entry(long seq, Instant at, Actor actor, String verb, String subject,
                        Map<String, String> delta, String prev, String digest) {}

    /** The table behind it. Returns false when it is down; throws only on bugs. */
    public interface Ledger {
        Optional<Entry> tail();
        boolean put(Entry e);
        List<Entry> between(long fromSeq, long toSeq);
        void overwrite(Entry e);
        int dropBefore(LocalDate day, Set<String> exceptSubjects);
    }

    private static final Set<String> NOISY = Set.of("updatedAt", "version", "etag", "lastSeen");
    private static final Set<String> TOUCHY = Set.of("password", "iban", "ssn", "dateOfBirth", "diagnosis");
    private static final String GENESIS = "0".repeat(64);

    private final Ledger ledger;
    private final Path puddle;
    private final Clock clock;
    private Entry tip;

    public AuditTrail(Ledger ledger, Path puddle, Clock clock) {
        this.ledger = ledger;
        this.puddle = puddle;
        this.clock = clock;
        this.tip = ledger.tail().orElse(null);
    }

    public synchronized Entry record(Actor actor, String verb, String subject,
                                     Map<String, String> before, Map<String, String> after) {
        Actor honest = unmask(actor);
        Map<String, String> delta = whatMoved(before, after);
        long seq = tip == null ? 1 : tip.seq() + 1;
        String prev = tip == null ? GENESIS : tip.digest();
        Instant at = clock.instant();
        Entry e = new Entry(seq, at, honest, verb, subject, delta, prev,
                knot(prev, seq, at, honest, verb, subject, delta));
        if (!ledger.put(e)) {
            catchDrip(e);
        }
        tip = e;
        return e;
    }

    /** Support staff act "as" a customer. The human behind the keyboard goes first, always. */
    static Actor unmask(Actor a) {
        if (a.onBehalfOf() == null || a.onBehalfOf().equals(a.userId())) {
            return new Actor(a.userId(), null, a.via());
        }
        if ("support-console".equals(a.via()) && a.userId().startsWith("cust-")) {
            return new Actor(a.onBehalfOf(), a.userId(), a.via()); // console v1 had the two swapped
        }
        return a;
    }

    /** "name: a -> b" for what differs. Touchy fields say only that they changed. */
    static Map<String, String> whatMoved(Map<String, String> before, Map<String, String> after) {
        Map<String, String> out = new TreeMap<>();
        Map<String, String> all = new TreeMap<>(before);
        all.putAll(after);
        for (String field : all.keySet()) {
            String was = before.get(field);
            String is = after.get(field);
            if (NOISY.contains(field) || Objects.equals(was, is)) {
                continue;
            }
            out.put(field, TOUCHY.contains(field) ? "(changed)" : was + " -> " + is);
        }
        return out;
    }

    /** Ties an entry to the one before it: take one out of the middle and every later one stops fitting. */
    static String knot(String prev, long seq, Instant at, Actor actor, String verb, String subject,
                       Map<String, String> delta) {
        try {
            MessageDigest sha = MessageDigest.getInstance("SHA-256");
            String flat = String.join("\n", prev, Long.toString(seq), at.toString(), actor.toString(), verb, subject,
                    new TreeMap<>(delta).toString());
            return HexFormat.of().formatHex(sha.digest(flat.getBytes(StandardCharsets.UTF_8)));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("a JVM without SHA-256", e);
        }
    }

    /** First sequence number that does not fit, or empty. Inked-over entries are skipped, their links are not. */
    public OptionalLong firstTear(long fromSeq, long toSeq) {
        String expected = null;
        for (Entry e : ledger.between(fromSeq, toSeq)) {
            if (expected != null && !expected.equals(e.prev())) {
                return OptionalLong.of(e.seq());
            }
            boolean inked = e.delta().containsKey("__inked");
            String again = knot(e.prev(), e.seq(), e.at(), e.actor(), e.verb(), e.subject(), e.delta());
            if (!inked && !again.equals(e.digest())) {
                return OptionalLong.of(e.seq());
            }
            expected = e.digest();
        }
        return OptionalLong.empty();
    }

    /** Right to erasure. Keeps the digest, so the rest of the book still balances. */
    public int blackOut(String subject, long fromSeq, long toSeq, String caseNo) {
        int n = 0;
        for (Entry e : ledger.between(fromSeq, toSeq)) {
            if (!e.subject().equals(subject) || e.delta().containsKey("__inked")) {
                continue;
            }
            ledger.overwrite(new Entry(e.seq(), e.at(), e.actor(), e.verb(), e.subject(),
                    Map.of("__inked", caseNo), e.prev(), e.digest()));
            n++;
        }
        return n;
    }

    /** The database is away but the business goes on. One line per entry, forced to the platter. */
    private void catchDrip(Entry e) {
        try {
            Files.writeString(puddle, Lines.of(e) + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND,
                    StandardOpenOption.DSYNC);
        } catch (IOException io) {
            throw new IllegalStateException("neither ledger nor disk takes entry " + e.seq(), io);
        }
    }

    /** Timer, every 30 s. Stops at the first refusal: order matters more than speed. */
    public synchronized int mopUp() throws IOException {
        if (!Files.exists(puddle)) {
            return 0;
        }
        List<String> waiting = Files.readAllLines(puddle);
        int done = 0;
        while (done < waiting.size() && ledger.put(Lines.parse(waiting.get(done)))) {
            done++;
        }
        Path rest = puddle.resolveSibling(puddle.getFileName() + ".rest");
        Files.write(rest, new ArrayList<>(waiting.subList(done, waiting.size())));
        Files.move(rest, puddle, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        return done;
    }

    /** Seven years and out, but whatever a court has asked about stays. */
    public int shed(Set<String> underHold) {
        LocalDate edge = LocalDate.now(clock.withZone(ZoneOffset.UTC)).minus(Period.ofYears(7));
        return ledger.dropBefore(edge, underHold);
    }
}
