// Package geocache sits between our services and the two geocoders we pay for.
// Atlas is cheap and good in towns, Meridian is expensive and good everywhere else.
// Contract notes (they differ!): Atlas answers may be kept 30 days, Meridian answers
// as long as we like but must vanish within 24 h when the contract ends.
package geocache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

var (
	ErrNoSuchPlace = errors.New("geocache: no such place")
	ErrPurseEmpty  = errors.New("geocache: daily allowance used up")
)

type Fix struct {
	Lat, Lon   float64
	Confidence float64 // 0..1, the provider's own opinion
	Source     string
}

type entry struct {
	Fix     Fix       `json:"fix"`
	Miss    bool      `json:"miss,omitempty"`
	Until   time.Time `json:"until"`
	Touches uint32    `json:"n"`
}

type Provider interface {
	Name() string
	Geocode(ctx context.Context, line string) (Fix, error)
}

type flight struct {
	done chan struct{}
	fix  Fix
	err  error
}

type Cache struct {
	mu      sync.Mutex
	shelf   map[string]*entry
	aloft   map[string]*flight
	purse   map[string]int // provider -> calls left today
	purseOn string         // the UTC day the purse was filled
	refill  map[string]int
	town    Provider
	country Provider
	max     int
	now     func() time.Time
}

func New(town, country Provider, refill map[string]int, max int) *Cache {
	return &Cache{
		shelf: map[string]*entry{}, aloft: map[string]*flight{}, purse: map[string]int{},
		refill: refill, town: town, country: country, max: max, now: time.Now,
	}
}

var shorthand = strings.NewReplacer(" str.", " strasse", "straße", "strasse", " st.", " street", " ave.", " avenue", " apt.", " #", " no.", " #")

// Knead makes "12 Hill St. , 4th floor" and "12  hill street,4th Floor" the same key.
// Never feed its result to a provider: they want the line as the customer typed it.
func Knead(line string) string {
	line = shorthand.Replace(strings.ToLower(line))
	var b strings.Builder
	gap := false
	for _, r := range line {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || r == '#' {
			if gap && b.Len() > 0 {
				b.WriteByte(' ')
			}
			gap = false
			b.WriteRune(r)
			continue
		}
		gap = true // also for emoji
	}
	return b.String()
}

// Pebble is the key for reverse look-ups: about 11 m at the equator. Parcels on one
// stairwell share it, two sides of a boulevard do not.
func Pebble(lat, lon float64) string {
	lon = tuck(lon)
	return fmt.Sprintf("@%.4f,%.4f", math.Round(lat*1e4)/1e4, math.Round(lon*1e4)/1e4)
}

// tuck: the Fiji depot sent 181.2 for a year.
func tuck(lon float64) float64 {
	for lon > 180 {
		lon -= 360
	}
	for lon <= -180 {
		lon += 360
	}
	return lon
}

func (c *Cache) Locate(ctx context.Context, line string) (Fix, error) {
	key := Knead(line)
	c.mu.Lock()
	if e, ok := c.shelf[key]; ok && c.now().Before(e.Until) {
		e.Touches++
		miss, fix := e.Miss, e.Fix
		c.mu.Unlock()
		if miss {
			return Fix{}, ErrNoSuchPlace
		}
		return fix, nil
	}
	c.mu.Unlock()
	return c.hitchhike(ctx, key, line)
}

// hitchhike: a label printer asks for one address 400 times in the same second.
// The first one drives, the others sit in the back.
func (c *Cache) hitchhike(ctx context.Context, key, line string) (Fix, error) {
	c.mu.Lock()
	if f, ok := c.aloft[key]; ok {
		c.mu.Unlock()
		select {
		case <-f.done:
			return f.fix, f.err
		case <-ctx.Done():
			return Fix{}, ctx.Err()
		}
	}
	f := &flight{done: make(chan struct{})}
	c.aloft[key] = f
	c.mu.Unlock()

	// Detached: the driver's client may hang up, the passengers still want to arrive.
	f.fix, f.err = c.askAround(context.WithoutCancel(ctx), line)
	c.mu.Lock()
	c.jot(key, f.fix, f.err)
	delete(c.aloft, key)
	c.mu.Unlock()
	close(f.done)
	return f.fix, f.err
}

func (c *Cache) askAround(ctx context.Context, line string) (Fix, error) {
	var last error = ErrPurseEmpty
	for _, p := range []Provider{c.town, c.country} {
		if !c.dip(p.Name()) {
			continue
		}
		hop, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
		fix, err := p.Geocode(hop, line)
		cancel()
		if err == nil && (fix.Confidence >= 0.6 || p == c.country) {
			fix.Lon, fix.Source = tuck(fix.Lon), p.Name()
			return fix, nil
		}
		if err != nil {
			last = err
		}
	}
	return Fix{}, last
}

// dip takes one call out of today's purse.
func (c *Cache) dip(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if day := c.now().UTC().Format(time.DateOnly); day != c.purseOn {
		c.purseOn = day
		for k, v := range c.refill {
			c.purse[k] = v
		}
	}
	if c.purse[name] <= 0 {
		return false
	}
	c.purse[name]--
	return true
}

// jot files an answer. Outages are not answers: only a firm "does not exist" is kept, and not for long,
// because new estates show up on maps weeks after people have moved in.
func (c *Cache) jot(key string, fix Fix, err error) {
	if err != nil && !errors.Is(err, ErrNoSuchPlace) {
		return
	}
	if len(c.shelf) >= c.max {
		c.shoulderOut(16)
	}
	if err != nil {
		c.shelf[key] = &entry{Miss: true, Until: c.now().Add(6 * time.Hour)}
		return
	}
	c.shelf[key] = &entry{Fix: fix, Until: c.now().Add(shelfLife(fix))}
}

func shelfLife(f Fix) time.Duration {
	days := 3 + 87*f.Confidence*f.Confidence
	if f.Source == "atlas" {
		days = math.Min(days, 30)
	}
	spread := 0.9 + 0.2*rand.Float64() // or the nightly import expires in one minute
	return time.Duration(days * spread * 24 * float64(time.Hour))
}

// shoulderOut looks at a few random entries (map order will do) and drops the least used of them.
func (c *Cache) shoulderOut(sample int) {
	victim, least := "", uint32(math.MaxUint32)
	for key, e := range c.shelf {
		if e.Touches <= least {
			victim, least = key, e.Touches
		}
		if sample--; sample <= 0 {
			break
		}
	}
	delete(c.shelf, victim)
}

// Renounce drops everything one provider ever told us, and says how much that was.
func (c *Cache) Renounce(source string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.shelf)
	for key, e := range c.shelf {
		if e.Fix.Source == source {
			delete(c.shelf, key)
		}
	}
	return before - len(c.shelf)
}

// Hibernate: a deploy used to cost us a day's allowance. The way back is in thaw.go.
func (c *Cache) Hibernate(path string) error {
	tmp, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	c.mu.Lock()
	enc := json.NewEncoder(tmp)
	for key, e := range c.shelf {
		if err = enc.Encode(map[string]*entry{key: e}); err != nil {
			break
		}
	}
	c.mu.Unlock()
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
