//! Patience: how often, how long and *whether* to try again. One policy type for the uplink, the job runner's
//! callbacks and the config fetcher. There were five retry loops before and three of them were wrong.
//!
//! * An error says what it is ([`Fate`]); the policy says what to do ([`Verdict`]). Call sites decide nothing.
//! * Jitter is a hash of (key, attempt), never a random number: a replayed incident waits exactly as it did.
//! * A server's own wish (`Fate::NotBefore`) beats our backoff, but never the deadline.
//! * Attempts are counted from 1. "Attempt 0" in a log means that somebody built the struct by hand.

use std::time::Duration;

/// What an error means for the future. Implemented by every error of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The same call may work later.
    Passing,
    /// The peer named a time. It is a wish from outside: bounded by [`Patience::longest_wish`].
    NotBefore(Duration),
    /// The same call can never work: bad payload, unknown device.
    Final,
    /// It may have been carried out. Only calls that are safe to repeat go on.
    Unknown,
}

pub trait Fateful {
    fn fate(&self) -> Fate;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    OutOfAttempts { made: u32 },
    PastDeadline { waited: Duration },
    Hopeless,
    /// Fate::Unknown on a call that was not marked [`Patience::repeatable`].
    MightHaveHappened,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Again { after: Duration, attempt: u32 },
    GiveUp(Why),
}

#[derive(Debug, Clone, Copy)]
pub struct Patience {
    attempts: u32,
    first: Duration,
    ceiling: Duration,
    deadline: Option<Duration>,
    longest_wish: Duration,
    repeatable: bool,
}

impl Patience {
    /// `attempts` is the total, the first one included. Zero is taken as one: a call is always made.
    pub const fn of(attempts: u32) -> Self {
        Patience {
            attempts: if attempts == 0 { 1 } else { attempts },
            first: Duration::from_millis(250),
            ceiling: Duration::from_secs(20),
            deadline: None,
            longest_wish: Duration::from_secs(90),
            repeatable: false,
        }
    }

    pub const fn starting(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    pub const fn capped(mut self, ceiling: Duration) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// Waits may not add up to more than this; time spent in the calls is the caller's.
    pub const fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    pub const fn wishes_up_to(mut self, longest: Duration) -> Self {
        self.longest_wish = longest;
        self
    }

    pub const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Full jitter in the upper half: between 50 % and 100 % of the doubled step.
    fn step(&self, key: u64, attempt: u32) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let top = doubled.min(self.ceiling);
        let roll = splitmix(key ^ u64::from(attempt)) % 1024;
        top / 2 + (top / 2) * (roll as u32) / 1024
    }

    /// `attempt` is the one that has just failed; `waited` is the sum of all waits so far.
    pub fn judge(&self, key: u64, attempt: u32, waited: Duration, fate: Fate) -> Verdict {
        let wait = match fate {
            Fate::Final => return Verdict::GiveUp(Why::Hopeless),
            Fate::Unknown if !self.repeatable => return Verdict::GiveUp(Why::MightHaveHappened),
            Fate::NotBefore(wish) => wish.min(self.longest_wish).max(self.step(key, attempt)),
            Fate::Passing | Fate::Unknown => self.step(key, attempt),
        };
        if attempt >= self.attempts {
            return Verdict::GiveUp(Why::OutOfAttempts { made: attempt });
        }
        if self.deadline.is_some_and(|limit| waited + wait > limit) {
            return Verdict::GiveUp(Why::PastDeadline { waited });
        }
        Verdict::Again { after: wait, attempt: attempt + 1 }
    }
}

/// Sleeping is a capability, so tests do not sleep and the simulator bends time.
pub trait Naps {
    fn nap(&mut self, how_long: Duration);
}

#[derive(Debug)]
pub struct Spent<E> {
    pub why: Why,
    /// The last error, not the first: the first is usually the cable.
    pub last: E,
    pub naps: Vec<Duration>,
}

/// Runs `call` until it works or patience ends. `call` gets the attempt's number, for its log line.
pub fn persist<T, E: Fateful>(
    patience: &Patience,
    key: u64,
    naps: &mut impl Naps,
    mut call: impl FnMut(u32) -> Result<T, E>,
) -> Result<T, Spent<E>> {
    let mut taken: Vec<Duration> = Vec::new();
    let mut attempt = 1;
    loop {
        let error = match call(attempt) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match patience.judge(key, attempt, taken.iter().sum(), error.fate()) {
            Verdict::GiveUp(why) => return Err(Spent { why, last: error, naps: taken }),
            Verdict::Again { after, attempt: next } => {
                naps.nap(after);
                taken.push(after);
                attempt = next;
            }
        }
    }
}

pub const UPLINK: Patience = Patience::of(8).starting(Duration::from_millis(400)).capped(Duration::from_secs(60));
/// Config is read-only, so a reply lost on the way costs nothing.
pub const CONFIG: Patience = Patience::of(4).within(Duration::from_secs(30)).repeatable();
/// Job callbacks fire webhooks at customers: never twice on a maybe.
pub const CALLBACK: Patience = Patience::of(5).starting(Duration::from_secs(2)).wishes_up_to(Duration::from_secs(300));

const fn splitmix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
