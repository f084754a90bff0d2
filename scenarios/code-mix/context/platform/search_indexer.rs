//! Indexer for the catalogue search. One writer per shard, many readers.
//!
//! Documents come from the change feed, at least once and sometimes out of order.
//! A segment is never edited after `seal`; what changes later goes to a newer one,
//! and `graze` folds the small ones together at night.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

pub type DocId = u64;

#[derive(Debug, Clone)]
pub struct Doc {
    pub id: DocId,
    pub revision: u64,
    pub text: String,
    pub gone: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Feed {
    Taken,
    Outdated { have: u64 },
    Full,
}

#[derive(Debug, Default, Clone)]
pub struct Segment {
    pub generation: u64,
    postings: BTreeMap<String, Vec<u8>>,
    lengths: HashMap<DocId, u32>,
    bones: HashSet<DocId>, // deleted here or replaced in a newer segment
}

/// "Crème brûlée" has to be found by somebody with a US keyboard.
pub fn shave(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for ch in word.chars().flat_map(char::to_lowercase) {
        match ch {
            'à'..='å' => out.push('a'),
            'è'..='ë' => out.push('e'),
            'ì'..='ï' => out.push('i'),
            'ò'..='ö' | 'ø' => out.push('o'),
            'ù'..='ü' => out.push('u'),
            'ç' => out.push('c'),
            'ñ' => out.push('n'),
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            other => out.push(other),
        }
    }
    out
}

/// Part numbers are why this is not a plain split: "AX-200/b" gives ax, 200, b AND ax200b.
pub fn chop(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for chunk in text.split_whitespace() {
        let bits: Vec<String> = chunk
            .split(|c: char| !c.is_alphanumeric())
            .filter(|bit| !bit.is_empty())
            .map(shave)
            .collect();
        if bits.len() > 1 && chunk.chars().any(|c| c.is_ascii_digit()) {
            words.push(bits.concat());
        }
        words.extend(bits);
    }
    words
}

/// Sorted ids as LEB128 gaps. Cuts the hot shard from 9 GB to 2.
pub fn squash(ids: &[DocId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ids.len() * 2);
    let mut prev = 0;
    for &id in ids {
        let mut gap = id - prev;
        prev = id;
        while gap >= 0x80 {
            out.push((gap as u8 & 0x7f) | 0x80);
            gap >>= 7;
        }
        out.push(gap as u8);
    }
    out
}

pub fn unsquash(bytes: &[u8]) -> Vec<DocId> {
    let (mut ids, mut prev, mut gap, mut shift) = (Vec::new(), 0u64, 0u64, 0);
    for &byte in bytes {
        gap |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            prev += gap;
            ids.push(prev);
            gap = 0;
            shift = 0;
        } else {
            shift += 7;
        }
    }
    ids
}

/// Both lists sorted. Doubles its stride in the long one, so "red bicycle" does not read all of "red".
pub fn leapfrog(short: &[DocId], long: &[DocId]) -> Vec<DocId> {
    let (mut hits, mut at) = (Vec::new(), 0);
    for &want in short {
        let mut stride = 1;
        while at + stride < long.len() && long[at + stride] < want {
            stride *= 2;
        }
        let end = (at + stride + 1).min(long.len());
        at += long[at..end].partition_point(|&id| id < want);
        if at == long.len() {
            break;
        }
        if long[at] == want {
            hits.push(want);
        }
    }
    hits
}

pub struct Shard {
    pub open: BTreeMap<String, Vec<DocId>>,
    open_lengths: HashMap<DocId, u32>,
    revisions: HashMap<DocId, u64>,
    live: RwLock<Arc<Vec<Arc<Segment>>>>,
    generation: u64,
    pub cursor: u64, // last feed offset that is safe on disk
    pending_offset: u64,
    cap: usize,
}

impl Shard {
    pub fn new(cap: usize, cursor: u64) -> Self {
        Shard {
            open: BTreeMap::new(),
            open_lengths: HashMap::new(),
            revisions: HashMap::new(),
            live: RwLock::new(Arc::new(Vec::new())),
            generation: 0,
            cursor,
            pending_offset: cursor,
            cap,
        }
    }

    /// A replayed or late change must not bring back last week's price.
    pub fn swallow(&mut self, doc: &Doc, offset: u64) -> Feed {
        if let Some(&have) = self.revisions.get(&doc.id) {
            if have >= doc.revision {
                return Feed::Outdated { have };
            }
        }
        if self.open_lengths.len() >= self.cap {
            return Feed::Full;
        }
        self.revisions.insert(doc.id, doc.revision);
        self.pending_offset = self.pending_offset.max(offset);
        self.inter(doc.id);
        if doc.gone {
            return Feed::Taken;
        }
        let words = chop(&doc.text);
        self.open_lengths.insert(doc.id, words.len() as u32);
        for word in words {
            let list = self.open.entry(word).or_default();
            if let Err(slot) = list.binary_search(&doc.id) {
                list.insert(slot, doc.id);
            }
        }
        Feed::Taken
    }

    /// Segments are shared with running queries, so this clones the few that change.
    fn inter(&mut self, id: DocId) {
        if self.open_lengths.remove(&id).is_some() {
            self.open.values_mut().for_each(|list| list.retain(|&other| other != id));
        }
        let mut live = self.live.write().expect("a reader panicked");
        let next = live.iter().map(|seg| {
            if seg.lengths.contains_key(&id) && !seg.bones.contains(&id) {
                let mut copy = Segment::clone(seg);
                copy.bones.insert(id);
                Arc::new(copy)
            } else {
                Arc::clone(seg)
            }
        });
        *live = Arc::new(next.collect());
    }

    /// `persist` must fsync. Only then may the feed forget what we have read.
    pub fn seal<E>(&mut self, persist: impl FnOnce(&Segment) -> Result<(), E>) -> Result<(), E> {
        self.generation += 1;
        let postings = self.open.iter().map(|(word, ids)| (word.clone(), squash(ids))).collect();
        let fresh = Segment {
            generation: self.generation,
            postings,
            lengths: self.open_lengths.clone(),
            bones: HashSet::new(),
        };
        persist(&fresh)?;
        self.cursor = self.pending_offset;
        self.open.clear();
        self.open_lengths.clear();
        let mut live = self.live.write().expect("a reader panicked");
        let mut next = Vec::clone(&live);
        next.push(Arc::new(fresh));
        *live = Arc::new(next);
        Ok(())
    }

    /// What a query holds while it runs; nothing is pulled from under it.
    pub fn pin(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.live.read().expect("the writer panicked"))
    }

    /// Picks neighbours of similar size, worst bone ratio first. None: leave the disk alone.
    pub fn graze(&self, at_most: usize) -> Option<Vec<u64>> {
        let live = self.pin();
        let mut ranked: Vec<_> = live.iter().filter(|seg| !seg.lengths.is_empty()).collect();
        ranked.sort_by_key(|seg| std::cmp::Reverse(seg.bones.len() * 1000 / seg.lengths.len()));
        let lead = ranked.first()?.lengths.len().max(1);
        let herd: Vec<u64> = ranked
            .iter()
            .filter(|seg| seg.lengths.len() <= lead * 4 && seg.lengths.len() * 4 >= lead)
            .take(at_most)
            .map(|seg| seg.generation)
            .collect();
        (herd.len() > 1).then_some(herd)
    }
}

/// BM25 with k1 = 1.2, b = 0.4: our descriptions are padded by vendors, full length punishment buries them.
pub fn heft(tf: f32, df: f32, docs: f32, len: f32, mean_len: f32) -> f32 {
    let rarity = ((docs - df + 0.5) / (df + 0.5) + 1.0).ln();
    rarity * tf * 2.2 / (tf + 1.2 * (0.6 + 0.4 * len / mean_len.max(1.0)))
}

/// How long the feeder sleeps before the next batch so that shoppers keep their p99.
pub fn breathe(query_p99: Duration, goal: Duration, last_batch: Instant) -> Duration {
    let over = query_p99.as_secs_f64() / goal.as_secs_f64();
    let nap = if over <= 0.8 { 0.0 } else { (over - 0.8).min(2.0) * 0.5 };
    Duration::from_secs_f64(nap).saturating_sub(last_batch.elapsed())
}
