package ingest

// The gateway's end of TLM2. One Stream per device connection; it owns its state and is not safe for two goroutines.
// frame_codec.rs is the other end: offsets in faults are counted from the frame's first byte on both sides.
//
// A reading goes through sieves in order, and the first one that says no gives the reason which is counted.
// Sieves never drop silently and never return an error: a bad reading is data about the device, not our failure.

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"example.internal/fleet/jobs"
)

const (
	maxBody      = 48 << 10
	flagLate     = 0b0000_0010
	flagAbsolute = 0b1000_0000
)

// Fault is a broken frame. At counts from the frame's magic.
type Fault struct {
	At   int
	What string
}

func (f *Fault) Error() string { return fmt.Sprintf("tlm2+%#06x: %s", f.At, f.What) }

type Reading struct {
	Series  uint32
	StampUs int64
	Milli   int64
	Late    bool
}

// Reason is a label of the metric ingest_sifted_total, so the list is closed.
type Reason string

const (
	Kept         Reason = ""
	FromFuture   Reason = "future"
	TooOld       Reason = "too-old"
	Duplicate    Reason = "duplicate"
	UnknownShelf Reason = "unknown-series"
	Frozen       Reason = "frozen-sensor"
)

// Sieve looks at one reading. It may keep state, which lives as long as the connection.
type Sieve interface {
	Sift(r *Reading) Reason
}

type SieveFunc func(r *Reading) Reason

func (f SieveFunc) Sift(r *Reading) Reason { return f(r) }

// Horizon keeps readings between now-past and now+future. Clocks of devices are wrong by minutes, so be generous.
func Horizon(now func() time.Time, past, future time.Duration) Sieve {
	return SieveFunc(func(r *Reading) Reason {
		at := time.UnixMicro(r.StampUs)
		switch n := now(); {
		case at.After(n.Add(future)):
			return FromFuture
		case at.Before(n.Add(-past)) && !r.Late:
			return TooOld
		}
		return Kept
	})
}

// once drops what a reconnecting agent sends again. It relies on stamps going up within a series,
// which holds for every agent but those with flagAbsolute; for them Stream leaves this sieve out.
type once struct{ newest map[uint32]int64 }

func (o *once) Sift(r *Reading) Reason {
	if last, seen := o.newest[r.Series]; seen && r.StampUs <= last && !r.Late {
		return Duplicate
	}
	if r.StampUs > o.newest[r.Series] {
		o.newest[r.Series] = r.StampUs
	}
	return Kept
}

// stuck reports a sensor that has not moved for `limit` readings. The reading itself is kept until then.
type stuck struct {
	limit int
	last  map[uint32]int64
	run   map[uint32]int
}

func (s *stuck) Sift(r *Reading) Reason {
	if last, seen := s.last[r.Series]; !seen || last != r.Milli {
		s.last[r.Series], s.run[r.Series] = r.Milli, 0
		return Kept
	}
	s.run[r.Series]++
	if s.run[r.Series] >= s.limit {
		return Frozen
	}
	return Kept
}

// Sink takes what was kept. A short write is a bug of the sink: it takes all or returns an error.
type Sink interface {
	Keep(ctx context.Context, device string, batch []Reading) error
}

// Tally counts per frame and is merged by the caller. Kept readings are under the empty reason.
type Tally map[Reason]int

type Stream struct {
	device  string
	epochUs int64
	greeted bool
	sieves  []Sieve
	sink    Sink
	wheel   *jobs.Wheel
	dirty   map[int64]bool // hours that need a rollup again because something late came in
}

func NewStream(device string, sink Sink, wheel *jobs.Wheel, sieves ...Sieve) *Stream {
	return &Stream{device: device, sink: sink, wheel: wheel, sieves: sieves, dirty: map[int64]bool{}}
}

// reader is Peel in the Rust code: takes bytes and knows where it is.
type reader struct {
	rest []byte
	at   int
}

func (p *reader) uvarint() (uint64, error) {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		return 0, &Fault{p.at, "varint"}
	}
	p.rest, p.at = p.rest[n:], p.at+n
	return v, nil
}

func (p *reader) varint() (int64, error) {
	v, n := binary.Varint(p.rest)
	if n <= 0 {
		return 0, &Fault{p.at, "zigzag"}
	}
	p.rest, p.at = p.rest[n:], p.at+n
	return v, nil
}

// Samples handles one frame of kind 2. A fault in the middle keeps nothing of the frame.
func (s *Stream) Samples(ctx context.Context, flags byte, body []byte, bodyAt int) (Tally, error) {
	if !s.greeted {
		return nil, &Fault{2, "samples before hello"}
	}
	if len(body) > maxBody {
		return nil, &Fault{bodyAt, "body too long"}
	}
	p := &reader{body, bodyAt}
	count, err := p.uvarint()
	if err != nil {
		return nil, err
	}
	batch := make([]Reading, 0, min(int(count), len(body)/3))
	tally, clock := Tally{}, s.epochUs
	for i := uint64(0); i < count; i++ {
		r, err := s.one(p, flags, &clock)
		if err != nil {
			return nil, err
		}
		why := s.sift(&r, flags)
		tally[why]++
		if why == Kept {
			batch = append(batch, r)
		}
	}
	if len(p.rest) > 0 {
		return nil, &Fault{p.at, fmt.Sprintf("%d bytes left over", len(p.rest))}
	}
	if err := s.sink.Keep(ctx, s.device, batch); err != nil {
		return nil, fmt.Errorf("keep %d readings of %s: %w", len(batch), s.device, err)
	}
	return tally, s.rollAgain(ctx, batch)
}

func (s *Stream) one(p *reader, flags byte, clock *int64) (Reading, error) {
	series, err := p.uvarint()
	if err != nil {
		return Reading{}, err
	}
	step, err := p.varint()
	if err != nil {
		return Reading{}, err
	}
	if flags&flagAbsolute != 0 {
		*clock = step
	} else {
		*clock += step
	}
	milli, err := p.varint()
	return Reading{Series: uint32(series), StampUs: *clock, Milli: milli, Late: flags&flagLate != 0}, err
}

func (s *Stream) sift(r *Reading, flags byte) Reason {
	for _, sieve := range s.sieves {
		if _, isOnce := sieve.(*once); isOnce && flags&flagAbsolute != 0 {
			continue
		}
		if why := sieve.Sift(r); why != Kept {
			return why
		}
	}
	return Kept
}

// rollAgain hangs one rollup job per hour touched by late readings, ten minutes later so that a burst is one job.
func (s *Stream) rollAgain(ctx context.Context, batch []Reading) error {
	for _, r := range batch {
		hour := r.StampUs / time.Hour.Microseconds()
		if !r.Late || s.dirty[hour] {
			continue
		}
		spec := jobs.Spec{Kind: "rollup/hourly", Tenant: s.device, Args: fmt.Appendf(nil, `{"hour":%d}`, hour)}
		if _, err := s.wheel.In(ctx, 10*time.Minute, spec); err != nil {
			return err
		}
		s.dirty[hour] = true
	}
	return nil
}

// Hello may come once. A second one is a confused agent behind a proxy that merges connections.
func (s *Stream) Hello(epochUs int64) error {
	if s.greeted {
		return &Fault{2, "second hello"}
	}
	s.greeted, s.epochUs = true, epochUs
	return nil
}

// Drain reads what is left so that the agent's last write does not fail with a reset.
func Drain(r io.Reader, most int64) { _, _ = io.CopyN(io.Discard, r, most) }
