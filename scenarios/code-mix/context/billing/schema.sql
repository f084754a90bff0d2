-- Billing, PostgreSQL 15. One file per release in migrations/; this is the dump we read.
-- Conventions: snake case, singular tables, `timestamptz` only, money is bigint minor units
-- with the currency beside it, no enum types (they cannot drop a value), text + check instead.

create table customer (
    id            text primary key check (id ~ '^cus_[0-9a-z]+$'),
    name          text not null,
    country       char(2) not null,
    vat_id        text,
    tz            text not null default 'UTC',
    hold_until    timestamptz,
    created_at    timestamptz not null default now(),
    merged_into   text references customer (id)     -- set by support tooling; follow it once, never twice
);

create table invoice (
    id            text primary key,                 -- inv_<ulid>, so id order is creation order
    customer      text not null references customer (id),
    currency      char(3) not null,
    state         text not null check (state in ('draft', 'open', 'paid', 'void', 'uncollectible')),
    tax_mode      text not null check (tax_mode in ('exclusive', 'inclusive', 'reverse_charge')),
    issued_at     timestamptz,
    due_at        timestamptz,
    paid          bigint not null default 0,
    version       integer not null default 1,
    meta          jsonb not null default '{}',
    check ((state = 'draft') = (issued_at is null))
);

create index invoice_due on invoice (due_at, id) where state = 'open';
create index invoice_customer on invoice (customer, issued_at desc);

create table invoice_line (
    invoice_id    text not null references invoice (id) on delete cascade,
    n             smallint not null,
    sku           text not null,
    text          text not null,
    net           bigint not null,
    starts        timestamptz,
    ends          timestamptz,
    tax_code      text not null default 'std',
    tax           bigint,                            -- null: not computed yet
    primary key (invoice_id, n),
    check ((starts is null) = (ends is null)),
    check (ends > starts)
);

-- Ledger. Append only: update and delete are revoked from the app role below.
create table entry (
    id            bigint generated always as identity primary key,
    idem          text not null unique,
    digest        char(64) not null,
    reason        text not null,
    at            timestamptz not null,              -- when it is true in the books
    booked_at     timestamptz not null default now(),-- when we learned of it
    reverses      bigint references entry (id),
    facts         jsonb not null default '{}'
);

create unique index entry_reversed_once on entry (reverses) where reverses is not null;

create table leg (
    entry_id      bigint not null references entry (id),
    n             smallint not null,
    account       text not null,
    amount        bigint not null check (amount <> 0),
    currency      char(3) not null,
    primary key (entry_id, n)
);

create index leg_account on leg (account, currency, entry_id);

create function leg_balanced() returns trigger language plpgsql as $$
begin
    if exists (
        select 1 from leg where entry_id = new.entry_id
        group by currency having sum(amount) <> 0
    ) then
        raise exception 'entry % does not balance', new.entry_id using errcode = 'BL001';
    end if;
    return null;
end $$;

create constraint trigger leg_balanced after insert on leg
    deferrable initially deferred for each row execute function leg_balanced();

create table closed_period (
    ends          timestamptz primary key,           -- nothing may be booked with at < max(ends)
    closed_by     text not null,
    closed_at     timestamptz not null default now()
);

create table dunning_event (
    id            bigint generated always as identity primary key,
    invoice_id    text not null references invoice (id),
    at            timestamptz not null,
    action        text not null,
    cause         text check (cause in ('soft', 'hard', 'auth', 'unknown')),
    amount        bigint not null default 0
);

create index dunning_event_invoice on dunning_event (invoice_id, at);

-- Subscriptions. `anchor` is what all renewals are counted from (proration.month_after).
create table subscription (
    id            text primary key,                 -- sub_<ulid>
    customer      text not null references customer (id),
    sku           text not null,
    price         bigint not null check (price >= 0),
    currency      char(3) not null,
    anchor        timestamptz not null,
    started_at    timestamptz not null,
    ended_at      timestamptz,                       -- null: running
    replaced_by   text references subscription (id), -- plan change: old one ends, new one starts, same anchor
    check (ended_at is null or ended_at > started_at)
);

create index subscription_running on subscription (customer) where ended_at is null;

create table seat (
    subscription  text not null references subscription (id),
    member        text not null,
    joined        timestamptz not null,
    left_at       timestamptz,                       -- `left` is a keyword, hence the suffix
    primary key (subscription, member, joined)
);

-- A credit note is an invoice of its own kind in print, but not in here: it has no lines,
-- it points at the invoice and at the ledger entry. Amount is positive.
create table credit_note (
    id            text primary key,                 -- cn_<ulid>
    invoice_id    text not null references invoice (id),
    entry_id      bigint not null references entry (id),
    amount        bigint not null check (amount > 0),
    tax_part      bigint not null default 0 check (tax_part between 0 and amount),
    reason        text not null,
    issued_at     timestamptz not null
);

-- Rebuilt at 03:00 UTC by jobs/balances.py. Reports only; decisions read `leg`.
create materialized view balance_cache as
    select l.account, l.currency, sum(l.amount) as amount, max(e.at) as upto
    from leg l join entry e on e.id = l.entry_id
    group by l.account, l.currency;

create unique index balance_cache_key on balance_cache (account, currency);

-- Legacy import from the old system: cents in *numeric*, local time without zone (Europe/Stockholm).
create table legacy_payment (
    row_no        integer primary key,
    customer_no   text,
    paid_on       timestamp,
    amount_dec    numeric(12, 2),
    cur           text,
    memo          text,
    imported_as   bigint references entry (id)
);

revoke update, delete on entry, leg from billing_app;
