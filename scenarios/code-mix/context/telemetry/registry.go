package jobs

// Kinds of jobs and how to build them. A kind is spelled area/verb@version: "rollup/hourly@3".
// The registry is filled in main, sealed, and read without a lock from then on. Adding after Seal panics:
// it would be a data race, and it was one (see the note at Seal).

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Code is part of the public API: the console shows a page for each one. Append only.
type Code string

const (
	CodeUnknown  Code = "unknown-kind"
	CodeRetired  Code = "retired-kind"
	CodeArgs     Code = "bad-arguments"
	CodeBusy     Code = "busy"
	CodeUnsure   Code = "unsure"
	CodeOverfull Code = "overfull"
)

// Refusal is the only error type which leaves this package. What went wrong, where, and what to do.
type Refusal struct {
	Code  Code
	Where string
	What  string
	Hint  string
	cause error
}

func (r *Refusal) Error() string {
	s := fmt.Sprintf("%s: %s: %s", r.Where, r.Code, r.What)
	if r.Hint != "" {
		s += " (" + r.Hint + ")"
	}
	return s
}

func (r *Refusal) Unwrap() error { return r.cause }

// Is matches by code, so callers write errors.Is(err, jobs.Refused(jobs.CodeBusy)).
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Where == "" && t.Code == r.Code
}

func Refused(c Code) error { return &Refusal{Code: c} }

func refuse(c Code, where, what, hint string) *Refusal {
	return &Refusal{Code: c, Where: where, What: what, Hint: hint}
}

func (r *Refusal) because(err error) *Refusal {
	r.cause = err
	return r
}

type Kind struct {
	Area, Verb string
	Version    int
}

func (k Kind) String() string { return fmt.Sprintf("%s/%s@%d", k.Area, k.Verb, k.Version) }

// ParseKind is strict. A missing version is version 0, which means "the newest that is not retired".
func ParseKind(s string) (Kind, error) {
	path, version, versioned := strings.Cut(s, "@")
	area, verb, ok := strings.Cut(path, "/")
	if !ok || area == "" || verb == "" || strings.Contains(verb, "/") {
		return Kind{}, refuse(CodeUnknown, s, "not of the form area/verb@version", "")
	}
	k := Kind{Area: area, Verb: verb}
	if versioned {
		n, err := strconv.Atoi(version)
		if err != nil || n < 1 {
			return Kind{}, refuse(CodeUnknown, s, "versions are whole numbers from 1", "").because(err)
		}
		k.Version = n
	}
	return k, nil
}

// Spec is what clients send. Tenant is already checked by the gateway.
type Spec struct {
	Kind   string          `json:"kind"`
	Tenant string          `json:"tenant"`
	Args   json.RawMessage `json:"args"`
}

type builder func(kind Kind, tenant string, raw json.RawMessage) (Job, error)

type shelf struct {
	build   builder
	lane    Lane
	lease   Tick
	retired string // non-empty: the kind that replaced it
}

type Registry struct {
	shelves map[Kind]*shelf
	newest  map[string]int // "area/verb" -> version, retired ones left out
	sealed  bool
}

func NewRegistry() *Registry {
	return &Registry{shelves: map[Kind]*shelf{}, newest: map[string]int{}}
}

// Args knows how to check itself after decoding. Zero values are filled in by Settle, not by the decoder.
type Args interface {
	Settle() error
}

// Stock adds a kind. It is a function because methods cannot have type parameters:
//
//	jobs.Stock(reg, "rollup/hourly@3", jobs.LaneRollup, 40, newHourly)
//
// PA must be *A, so that Settle can change what it checks.
func Stock[A any, PA interface {
	*A
	Args
}](r *Registry, name string, lane Lane, lease Tick, make func(Kind, string, A) (Job, error)) {
	if r.sealed {
		panic("jobs: Stock(" + name + ") after Seal")
	}
	kind, err := ParseKind(name)
	if err != nil || kind.Version == 0 {
		panic("jobs: Stock needs a full kind, got " + name)
	}
	if _, twice := r.shelves[kind]; twice {
		panic("jobs: " + name + " stocked twice")
	}
	build := func(k Kind, tenant string, raw json.RawMessage) (Job, error) {
		var args A
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&args); err != nil {
			return nil, refuse(CodeArgs, k.String(), err.Error(), "see the console page of this kind").because(err)
		}
		if err := PA(&args).Settle(); err != nil {
			var r *Refusal
			if errors.As(err, &r) {
				return nil, r
			}
			return nil, refuse(CodeArgs, k.String(), err.Error(), "").because(err)
		}
		return make(k, tenant, args)
	}
	r.shelves[kind] = &shelf{build: build, lane: lane, lease: lease}
	if key := kind.Area + "/" + kind.Verb; kind.Version > r.newest[key] {
		r.newest[key] = kind.Version
	}
}

// Retire keeps the kind for tickets that are still hanging but refuses new ones.
func (r *Registry) Retire(name, heir string) {
	kind, err := ParseKind(name)
	s := r.shelves[kind]
	if err != nil || s == nil {
		panic("jobs: Retire of a kind that is not stocked: " + name)
	}
	s.retired = heir
	key := kind.Area + "/" + kind.Verb
	r.newest[key] = 0
	for k, other := range r.shelves {
		if k.Area+"/"+k.Verb == key && other.retired == "" && k.Version > r.newest[key] {
			r.newest[key] = k.Version
		}
	}
}

// Seal ends the filling. In March a plugin stocked its kind from an init goroutine and the map was torn.
func (r *Registry) Seal() *Registry {
	r.sealed = true
	return r
}

func (r *Registry) find(k Kind) (Kind, *shelf, error) {
	if k.Version == 0 {
		k.Version = r.newest[k.Area+"/"+k.Verb]
	}
	s, ok := r.shelves[k]
	if !ok {
		return k, nil, refuse(CodeUnknown, k.String(), "no such kind", r.near(k))
	}
	if s.retired != "" {
		return k, nil, refuse(CodeRetired, k.String(), "no longer taken", "use "+s.retired)
	}
	return k, s, nil
}

func (r *Registry) near(k Kind) string {
	var names []string
	for other := range r.shelves {
		if other.Area == k.Area {
			names = append(names, other.String())
		}
	}
	sort.Strings(names)
	if len(names) == 0 {
		return "nothing is stocked under " + k.Area
	}
	return k.Area + " has " + strings.Join(names, ", ")
}

// Build is all the wheel needs: the job and the lane it waits in.
func (r *Registry) Build(spec Spec) (Job, Lane, error) {
	asked, err := ParseKind(spec.Kind)
	if err != nil {
		return nil, 0, err
	}
	kind, s, err := r.find(asked)
	if err != nil {
		return nil, 0, err
	}
	job, err := s.build(kind, spec.Tenant, spec.Args)
	return job, s.lane, err
}

// LeaseOf also answers for retired kinds: their old tickets still run.
func (r *Registry) LeaseOf(k Kind) Tick {
	if s, ok := r.shelves[k]; ok {
		return s.lease
	}
	return 8
}
