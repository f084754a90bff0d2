//! TLM2 frames, agent side. The Go side lives in ingest.go and must agree byte for byte.
//!
//! ```text
//! magic 0x54 0x32 | kind u8 | flags u8 | len varint | body (len bytes) | crc16 u16 LE
//! ```
//!
//! House rules of this file:
//! * nobody indexes a slice; bytes are taken from a [`Peel`], which remembers where it stands;
//! * every failure is a [`WireFault`] made by `fault!`, and its `at` is an offset from the *frame's* first byte,
//!   not from the body's. Support greps the gateway logs by that offset;
//! * the CRC covers kind, flags, length and body, so not the magic (resync scans for the magic first).

use std::fmt;

pub const MAGIC: [u8; 2] = [0x54, 0x32];
/// The gateway drops anything larger without an answer, so the agent never builds it.
pub const MAX_BODY: usize = 48 * 1024;

pub const FLAG_PACKED: u8 = 0b0000_0001;
pub const FLAG_LATE: u8 = 0b0000_0010;
/// Set by agents older than 3.1, which sent absolute stamps. Still about 4 % of the fleet.
pub const FLAG_ABSOLUTE: u8 = 0b1000_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Short { want: usize, have: usize },
    Magic(u8, u8),
    Kind(u8),
    Varint,
    TooLong(u64),
    Crc { sent: u16, ours: u16 },
    Leftover(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireFault {
    pub at: usize,
    pub what: What,
}

impl fmt::Display for WireFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tlm2+{:#06x}: {:?}", self.at, self.what)
    }
}

impl std::error::Error for WireFault {}

macro_rules! fault {
    ($at:expr, $what:expr) => {
        return Err(WireFault { at: $at, what: $what })
    };
}

pub type Wire<T> = Result<T, WireFault>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    Samples = 2,
    Gap = 3,
    Bye = 9,
}

impl Kind {
    fn from_wire(at: usize, byte: u8) -> Wire<Self> {
        Ok(match byte {
            1 => Kind::Hello,
            2 => Kind::Samples,
            3 => Kind::Gap,
            9 => Kind::Bye,
            other => fault!(at, What::Kind(other)),
        })
    }
}

/// Takes bytes off the front and knows the frame offset of the next one.
#[derive(Debug, Clone, Copy)]
pub struct Peel<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Peel<'a> {
    pub fn at_offset(rest: &'a [u8], at: usize) -> Self {
        Peel { rest, at }
    }

    pub fn take(&mut self, n: usize) -> Wire<&'a [u8]> {
        if self.rest.len() < n {
            fault!(self.at, What::Short { want: n, have: self.rest.len() });
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        self.at += n;
        Ok(head)
    }

    pub fn byte(&mut self) -> Wire<u8> {
        self.take(1).map(|b| b[0])
    }

    /// LEB128, ten bytes at most. The fault points at the *first* byte of the number.
    pub fn varint(&mut self) -> Wire<u64> {
        let start = self.at;
        let mut out = 0u64;
        for shift in (0..70).step_by(7) {
            let b = self.byte()?;
            if shift == 63 && b > 1 {
                fault!(start, What::Varint);
            }
            out |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(out);
            }
        }
        fault!(start, What::Varint)
    }

    pub fn zigzag(&mut self) -> Wire<i64> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub fn done(self) -> Wire<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        fault!(self.at, What::Leftover(self.rest.len()))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub flags: u8,
    pub body: &'a [u8],
    /// Frame offset of the body's first byte: what a body decoder hands to [`Peel::at_offset`].
    pub body_at: usize,
}

/// One frame from the front of `bytes`; the second value is how many bytes it took.
pub fn decode(bytes: &[u8]) -> Wire<(Frame<'_>, usize)> {
    let mut peel = Peel::at_offset(bytes, 0);
    let magic = peel.take(2)?;
    if magic != MAGIC {
        fault!(0, What::Magic(magic[0], magic[1]));
    }
    let covered = peel.rest;
    let kind_at = peel.at;
    let kind = Kind::from_wire(kind_at, peel.byte()?)?;
    let flags = peel.byte()?;
    let len_at = peel.at;
    let len = peel.varint()?;
    if len > MAX_BODY as u64 {
        fault!(len_at, What::TooLong(len));
    }
    let body_at = peel.at;
    let body = peel.take(len as usize)?;
    let ours = crc16(&covered[..peel.at - kind_at]);
    let crc_at = peel.at;
    let tail = peel.take(2)?;
    let sent = u16::from_le_bytes([tail[0], tail[1]]);
    if sent != ours {
        fault!(crc_at, What::Crc { sent, ours });
    }
    Ok((Frame { kind, flags, body, body_at }, peel.at))
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    pub series: u32,
    pub stamp_us: i64,
    pub milli: i64,
}

/// Stamps are zigzag deltas from the reading before, the first one from `epoch_us` of the Hello.
pub fn readings(frame: &Frame<'_>, epoch_us: i64) -> Wire<Vec<Reading>> {
    let mut peel = Peel::at_offset(frame.body, frame.body_at);
    let count = peel.varint()? as usize;
    // A hostile count must not reserve memory: three bytes is the least a reading can take.
    let mut out = Vec::with_capacity(count.min(frame.body.len() / 3));
    let mut clock = epoch_us;
    for _ in 0..count {
        let series_at = peel.at;
        let series = peel.varint()?;
        if series > u64::from(u32::MAX) {
            fault!(series_at, What::TooLong(series));
        }
        let step = peel.zigzag()?;
        clock = if frame.flags & FLAG_ABSOLUTE != 0 { step } else { clock.saturating_add(step) };
        out.push(Reading { series: series as u32, stamp_us: clock, milli: peel.zigzag()? });
    }
    peel.done()?;
    Ok(out)
}

/// CRC-16/KERMIT, bit by bit: frames are small and the table cost 512 bytes of flash on the M0 boards.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, b| {
        (0..8).fold(crc ^ u16::from(*b), |c, _| if c & 1 != 0 { (c >> 1) ^ 0x8408 } else { c >> 1 })
    })
}

/// Finds the next magic after a fault. None: keep the last byte, it may be half a magic.
pub fn resync(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).skip(1).position(|pair| pair == MAGIC).map(|at| at + 1)
}
