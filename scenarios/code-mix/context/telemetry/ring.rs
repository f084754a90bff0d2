//! The lossy ring between the samplers (many, must never wait) and the uplink (one, often offline).
//!
//! Vocabulary, used in the dashboards too, so please keep it:
//! * `seq`: the number of a reading since boot; never reused, never reset, starts at 1. Zero means "nothing yet".
//! * `evict`: a full ring overwrites its oldest slot. That is normal operation on a train in a tunnel.
//! * `tail`: a reader with its own position. A tail that was overtaken learns how many it lost, exactly once.
//! * `receipt`: what a writer gets back. Samplers ignore it, the self-test does not.

use std::num::NonZeroU64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub seq: NonZeroU64,
    /// The seq that had to go, if one had to.
    pub evicted: Option<NonZeroU64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Haul<T> {
    /// Readings in order of seq, nothing missing between the previous haul and this one.
    Whole(Vec<T>),
    /// `lost` readings were overwritten before we came; the rest follows.
    Torn { lost: u64, kept: Vec<T> },
    Dry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TailId(u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingFault {
    /// More than [`MAX_TAILS`] readers. Raise the limit only with the firmware team.
    TooManyTails,
    /// The tail was dropped, or belongs to another ring.
    NoSuchTail(TailId),
    /// Somebody acknowledged a seq which this ring has not given out.
    FromTheFuture { acked: u64, newest: u64 },
}

pub const MAX_TAILS: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Highest seq this tail has been shown.
    shown: u64,
    /// Highest seq this tail has acknowledged; `acked <= shown` always.
    acked: u64,
    live: bool,
}

#[derive(Debug)]
pub struct LossyRing<T> {
    slots: Vec<Option<T>>,
    newest: u64,
    tails: [Tail; MAX_TAILS],
    evicted_unseen: u64,
}

impl<T: Clone> LossyRing<T> {
    /// `cap` is rounded up to a power of two: the slot of a seq is a mask, and division is slow on the M0.
    pub fn with_room_for(cap: usize) -> Self {
        let cap = cap.max(2).next_power_of_two();
        let empty = Tail { shown: 0, acked: 0, live: false };
        LossyRing { slots: vec![None; cap], newest: 0, tails: [empty; MAX_TAILS], evicted_unseen: 0 }
    }

    fn slot_of(&self, seq: u64) -> usize {
        (seq as usize) & (self.slots.len() - 1)
    }

    /// Oldest seq still in the ring; 1 while it has never been full.
    pub fn oldest(&self) -> u64 {
        self.newest.saturating_sub(self.slots.len() as u64 - 1).max(1)
    }

    pub fn push(&mut self, item: T) -> Receipt {
        self.newest += 1;
        let seq = self.newest;
        let slot = self.slot_of(seq);
        let evicted = self.slots[slot].replace(item).and_then(|_| NonZeroU64::new(seq - self.slots.len() as u64));
        if let Some(gone) = evicted {
            // Unseen by *everyone*: one slow debug tail must not turn the loss gauge red.
            if self.tails.iter().filter(|t| t.live).all(|t| t.shown < gone.get()) {
                self.evicted_unseen += 1;
            }
        }
        Receipt { seq: NonZeroU64::new(seq).expect("seq starts at one"), evicted }
    }

    /// A new tail begins at the oldest reading, so that a restarted uplink sends what is still there.
    pub fn attach(&mut self) -> Result<TailId, RingFault> {
        let start = self.oldest() - 1;
        for (n, tail) in self.tails.iter_mut().enumerate() {
            if !tail.live {
                *tail = Tail { shown: start, acked: start, live: true };
                return Ok(TailId(n as u8));
            }
        }
        Err(RingFault::TooManyTails)
    }

    pub fn detach(&mut self, id: TailId) -> Result<(), RingFault> {
        self.tail_mut(id)?.live = false;
        Ok(())
    }

    fn tail_mut(&mut self, id: TailId) -> Result<&mut Tail, RingFault> {
        match self.tails.get_mut(usize::from(id.0)) {
            Some(tail) if tail.live => Ok(tail),
            _ => Err(RingFault::NoSuchTail(id)),
        }
    }

    /// At most `most` readings. Shown is not acknowledged: after a failed send call [`LossyRing::rewind`].
    pub fn haul(&mut self, id: TailId, most: usize) -> Result<Haul<T>, RingFault> {
        let (oldest, newest) = (self.oldest(), self.newest);
        let tail = self.tail_mut(id)?;
        if tail.shown >= newest {
            return Ok(Haul::Dry);
        }
        let lost = (oldest - 1).saturating_sub(tail.shown);
        let first = tail.shown + lost + 1;
        let last = newest.min(first + most as u64 - 1);
        tail.shown = last;
        if lost > 0 {
            // What is gone cannot be acknowledged any more.
            tail.acked = tail.acked.max(first - 1);
        }
        let kept = (first..=last).filter_map(|seq| self.slots[self.slot_of(seq)].clone()).collect();
        Ok(if lost > 0 { Haul::Torn { lost, kept } } else { Haul::Whole(kept) })
    }

    pub fn ack(&mut self, id: TailId, upto: u64) -> Result<u64, RingFault> {
        let newest = self.newest;
        let tail = self.tail_mut(id)?;
        if upto > newest || upto > tail.shown {
            return Err(RingFault::FromTheFuture { acked: upto, newest });
        }
        // Acks may arrive out of order after a reconnect; an older one is a no-op and not an error.
        let fresh = upto.saturating_sub(tail.acked);
        tail.acked = tail.acked.max(upto);
        Ok(fresh)
    }

    /// Everything shown and not acknowledged will be shown again.
    pub fn rewind(&mut self, id: TailId) -> Result<u64, RingFault> {
        let tail = self.tail_mut(id)?;
        let again = tail.shown - tail.acked;
        tail.shown = tail.acked;
        Ok(again)
    }

    /// How far the tail is behind, in readings it has not acknowledged.
    pub fn lag(&self, id: TailId) -> Option<u64> {
        let tail = self.tails.get(usize::from(id.0)).filter(|t| t.live)?;
        Some(self.newest - tail.acked)
    }

    /// Readings which nobody ever saw. Feeds the gauge `ring_loss_total`.
    pub fn loss(&self) -> u64 {
        self.evicted_unseen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overtaken_tail_hears_of_its_loss_once() {
        let mut ring = LossyRing::with_room_for(4);
        let tail = ring.attach().unwrap();
        for n in 1..=6 {
            let _ = ring.push(n);
        }
        assert_eq!(ring.haul(tail, 2), Ok(Haul::Torn { lost: 2, kept: vec![3, 4] }));
        assert_eq!(ring.haul(tail, 9), Ok(Haul::Whole(vec![5, 6])));
        assert_eq!(ring.haul(tail, 9), Ok(Haul::Dry));
    }
}
