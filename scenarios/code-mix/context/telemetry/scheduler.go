package jobs

// The wheel: one goroutine owns all state, everyone else sends it a letter (see post).
// Why no mutex: the old scheduler had four and a lock order that two people knew.
//
// Words:
//   Tick    a quarter of a second since the wheel started; never wall clock (NTP jumped 40 s once)
//   Lane    priority class; a lane may starve the ones after it, on purpose, except LaneCold
//   Ticket  handle of one scheduled job, comparable, never reused
//   Lease   a running job must beat() before its lease ends or the ticket goes back into the wheel

import (
	"container/list"
	"context"
	"fmt"
	"time"
)

type (
	Tick   int64
	Lane   uint8
	Ticket uint64
)

const (
	tickLen   = 250 * time.Millisecond
	spokes    = 512 // a power of two; farther jobs go round (see rounds in entry)
	coldEvery = 16  // each 16th tick LaneCold goes first, else it would never run on Mondays
)

const (
	LaneAlarm Lane = iota
	LaneRollup
	LaneExport
	LaneCold
	lanes
)

// Job is what the registry built. Run must return soon after ctx ends; nobody kills goroutines here.
type Job interface {
	Kind() Kind
	Run(ctx context.Context, beat func()) error
}

type entry struct {
	ticket  Ticket
	job     Job
	lane    Lane
	rounds  int64 // full turns of the wheel still to wait
	attempt int
	leaseAt Tick // 0: not running
	stop    context.CancelFunc
}

type Wheel struct {
	letters chan func()
	now     Tick
	spoke   [spokes]*list.List
	due     [lanes]*list.List
	running map[Ticket]*entry
	next    Ticket
	slots   int
	reg     *Registry
	mercy   Mercy
	tell    func(event string, t Ticket, kind Kind, err error)
}

// Mercy decides about a failed attempt: how many ticks until the next one, or ok=false.
// The Rust agent has the same idea under the name Patience; keep the two tables in step.
type Mercy func(kind Kind, attempt int, err error) (wait Tick, ok bool)

func NewWheel(slots int, reg *Registry, mercy Mercy) *Wheel {
	w := &Wheel{
		letters: make(chan func(), 64),
		running: map[Ticket]*entry{},
		slots:   slots,
		reg:     reg,
		mercy:   mercy,
		tell:    func(string, Ticket, Kind, error) {},
	}
	for i := range w.spoke {
		w.spoke[i] = list.New()
	}
	for i := range w.due {
		w.due[i] = list.New()
	}
	return w
}

// post runs fn on the wheel's goroutine and waits for it. Never call it from there: it would wait for itself.
func (w *Wheel) post(ctx context.Context, fn func()) error {
	done := make(chan struct{})
	select {
	case w.letters <- func() { fn(); close(done) }:
	case <-ctx.Done():
		return refuse(CodeBusy, "wheel", "its letterbox is full", "try again after a tick").because(ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		// The letter is in the box and will be read. The caller just does not hear of it.
		return refuse(CodeUnsure, "wheel", "gave up waiting for the wheel", "look the ticket up").because(ctx.Err())
	}
}

// In schedules spec after wait, rounded up to a whole tick and never less than one.
func (w *Wheel) In(ctx context.Context, wait time.Duration, spec Spec) (Ticket, error) {
	job, lane, err := w.reg.Build(spec)
	if err != nil {
		return 0, err
	}
	ticks := Tick((wait + tickLen - 1) / tickLen)
	if ticks < 1 {
		ticks = 1
	}
	var t Ticket
	err = w.post(ctx, func() {
		w.next++
		t = w.next
		w.hang(&entry{ticket: t, job: job, lane: lane}, ticks)
	})
	return t, err
}

func (w *Wheel) hang(e *entry, ticks Tick) {
	at := w.now + ticks
	e.leaseAt = 0
	e.rounds = int64((ticks - 1) / spokes)
	w.spoke[at%spokes].PushBack(e)
}

// Cancel takes a waiting job out or asks a running one to stop. False: it is neither, so it is over.
func (w *Wheel) Cancel(ctx context.Context, t Ticket) (found bool, err error) {
	err = w.post(ctx, func() {
		if e, ok := w.running[t]; ok {
			e.attempt = -1 // tells settle that this was wanted
			e.stop()
			found = true
			return
		}
		for _, l := range append(w.spoke[:], w.due[:]...) {
			for el := l.Front(); el != nil; el = el.Next() {
				if el.Value.(*entry).ticket == t {
					l.Remove(el)
					found = true
					return
				}
			}
		}
	})
	return found, err
}

// Turn is the wheel's goroutine. It returns when ctx ends and all running jobs have settled.
func (w *Wheel) Turn(ctx context.Context, beats <-chan time.Time) {
	for {
		select {
		case letter := <-w.letters:
			letter()
		case <-beats:
			w.tick(ctx)
		case <-ctx.Done():
			for len(w.running) > 0 {
				(<-w.letters)()
			}
			return
		}
	}
}

func (w *Wheel) tick(ctx context.Context) {
	w.now++
	l := w.spoke[w.now%spokes]
	for el := l.Front(); el != nil; {
		e, after := el.Value.(*entry), el.Next()
		if e.rounds > 0 {
			e.rounds--
		} else {
			l.Remove(el)
			w.due[e.lane].PushBack(e)
		}
		el = after
	}
	for t, e := range w.running {
		if e.leaseAt < w.now {
			w.tell("lease-lost", t, e.job.Kind(), nil)
			e.stop()
		}
	}
	w.fill(ctx)
}

// fill starts due jobs while there are slots. The order of lanes is the order of the constants.
func (w *Wheel) fill(ctx context.Context) {
	order := [lanes]Lane{LaneAlarm, LaneRollup, LaneExport, LaneCold}
	if w.now%coldEvery == 0 {
		order = [lanes]Lane{LaneCold, LaneAlarm, LaneRollup, LaneExport}
	}
	for _, lane := range order {
		for w.due[lane].Len() > 0 && len(w.running) < w.slots {
			e := w.due[lane].Remove(w.due[lane].Front()).(*entry)
			w.launch(ctx, e)
		}
	}
}

func (w *Wheel) launch(ctx context.Context, e *entry) {
	run, stop := context.WithCancel(ctx)
	e.stop, e.attempt = stop, e.attempt+1
	lease := w.reg.LeaseOf(e.job.Kind())
	e.leaseAt = w.now + lease
	w.running[e.ticket] = e
	beat := func() { w.letters <- func() { e.leaseAt = w.now + lease } }
	go func() {
		err := e.job.Run(run, beat)
		stop()
		w.letters <- func() { w.settle(e, err) }
	}()
}

func (w *Wheel) settle(e *entry, err error) {
	delete(w.running, e.ticket)
	switch {
	case e.attempt < 0:
		w.tell("cancelled", e.ticket, e.job.Kind(), nil)
	case err == nil:
		w.tell("done", e.ticket, e.job.Kind(), nil)
	default:
		wait, ok := w.mercy(e.job.Kind(), e.attempt, err)
		if !ok {
			w.tell("buried", e.ticket, e.job.Kind(), fmt.Errorf("attempt %d: %w", e.attempt, err))
			return
		}
		w.tell("again", e.ticket, e.job.Kind(), err)
		w.hang(e, wait)
	}
}
