package frames

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Limits, as Options.Refused names them.
const (
	// LimitFrames is the bound on frames that are no use to anyone.
	LimitFrames = "http2_frames"
	// LimitUnfinished is the time in which the preface, a frame or a header block
	// must be complete.
	LimitUnfinished = "http2_unfinished"
)

// What a client may send for nothing. Every answer earns more of it, so that a
// proxy that brings thousands of callers may cancel and acknowledge as it likes.
const (
	// burst is how many frames a connection may begin with.
	burst = 1_000
	// perSecond is how many more it gets, up to burst.
	perSecond = 100
	// perHeaders is what the head or the trailers of an answer earn.
	perHeaders = 10
	// perData is what a part of an answer earns, and perKiB every KiB in it: clients
	// give the window back in parts of 2 KiB or more, and those that measure the way
	// send a PING for a message.
	perData, perKiB = 2, 1
	// smallest is the length of DATA that is some use: the prefix of a gRPC message
	// has five bytes. Shorter ones count, in both directions.
	smallest = 5
	// mostPadding is what PADDED adds to the length of DATA at most, with its own byte.
	mostPadding = 256
	// mostEarned is how much of what answers have earned is held for later, so that a
	// connection of many answers cannot flood for long.
	mostEarned = 20 * burst
)

// ErrFlood is what reading ends with when a client has sent too many frames.
var ErrFlood = errors.New("too many HTTP/2 frames that ask for nothing")

// Options of a Guard.
type Options struct {
	// Timeout is the time that a client has to finish what it has begun: the
	// preface, a frame other than DATA, a header block with its CONTINUATION frames.
	Timeout time.Duration
	// Refused is told the limit when it ends a connection. It must be safe for
	// concurrent use.
	Refused func(limit string)
	// Close closes the connection. It is called from a goroutine of its own.
	Close func()
}

// Guard bounds one connection. What is read is for one goroutine, what is written
// for any.
type Guard struct {
	o     Options
	began time.Time

	reads  Follower
	left   int64 // frames that are still free; the reader's
	filled time.Time
	newest uint32 // stream that the client has begun last
	open   int64  // HEADERS whose stream goes on, each of which DATA may end for nothing
	earned atomic.Int64

	mu     sync.Mutex // held while something is written
	writes Follower

	since atomic.Int64 // when what is unfinished has begun, in nanoseconds after began; 0 means nothing is
	armed atomic.Bool  // the timer runs
	timer struct {
		sync.Mutex
		*time.Timer
		stopped bool
	}
}

// NewGuard guards a connection from its client's first byte on.
func NewGuard(o Options) *Guard {
	now := time.Now()
	return &Guard{o: o, began: now, filled: now, left: burst, reads: FromPreface()}
}

// Between says whether a frame that was read ends here, and another may begin.
func (g *Guard) Between() bool { return g.reads.Between() }

// Read takes what has been read, and calls saw for each frame; nil means nobody.
// It returns ErrFlood when the connection is to end: see End.
func (g *Guard) Read(p []byte, saw func(Frame)) error {
	g.reads.fresh = false
	g.reads.Feed(p, func(f Frame) {
		g.left -= g.cost(f)
		if saw != nil {
			saw(f)
		}
	})
	g.wait()
	if g.left+min(0, g.earned.Load()) >= 0 {
		return nil
	}
	return g.fill()
}

// cost is how many of the free frames a frame takes.
func (g *Guard) cost(f Frame) int64 {
	switch f.Type { //nolint:exhaustive // All others cost, those too that nobody knows.
	case http2.FrameData:
		if f.Flags.Has(http2.FlagDataEndStream) && g.open > 0 {
			g.open--
			return 0
		}
		// How much of it is padding stands behind the head, which is not read.
		if f.Length >= smallest+mostPadding || f.Length >= smallest && !f.Flags.Has(http2.FlagDataPadded) {
			return 0
		}
	case http2.FrameHeaders:
		g.newest = max(g.newest, f.Stream)
		if !f.Flags.Has(http2.FlagHeadersEndStream) {
			g.open++
		}
	}
	return 1
}

// fill adds what has been earned and what time has given. The clock is read only
// here, which most connections never reach.
func (g *Guard) fill() error {
	g.left += g.earned.Swap(0)
	if g.left >= 0 {
		return nil
	}
	now := time.Now()
	g.left += min(int64(now.Sub(g.filled)*perSecond/time.Second), burst)
	g.filled = now
	if g.left >= 0 {
		return nil
	}
	return ErrFlood
}

// Write writes p to the connection, and calls saw for each frame; nil means
// nobody.
func (g *Guard) Write(c net.Conn, p []byte, saw func(Frame)) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, err := c.Write(p)
	g.writes.Feed(p[:n], func(f Frame) {
		switch f.Type { //nolint:exhaustive // Nothing else is an answer.
		case http2.FrameHeaders:
			g.earn(perHeaders)
		case http2.FrameData:
			if f.Length >= smallest {
				g.earn(perData + int64(f.Length>>10)*perKiB)
			}
		case http2.FrameRSTStream: // It answers what was of no use, such as DATA of a stream that has ended.
			g.earn(-1)
		}
		if saw != nil {
			saw(f)
		}
	})
	return n, err
}

// earn is called with mu held: only fill changes earned meanwhile, and then it is small.
func (g *Guard) earn(n int64) {
	if e := g.earned.Add(n); e > mostEarned {
		g.earned.CompareAndSwap(e, mostEarned)
	}
}

// How long End goes on reading, so that the client sees why the connection ends: a
// connection that is closed with something unread is reset, and the last frame
// sent on it is lost.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// End tells the client that it has sent too much (RFC 9113, 10.5), where it reads.
// The reader calls it, and reads no more; it must close the connection then.
func (g *Guard) End(c net.Conn) {
	g.o.Refused(LimitFrames)
	if !g.mu.TryLock() { // A write waits for the client: it reads nothing.
		return
	}
	defer g.mu.Unlock()
	if !g.writes.Between() || c.SetDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	const reason = "too many frames that ask for nothing"
	b := []byte{0, 0, 8 + byte(len(reason)), byte(http2.FrameGoAway), 0, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, g.newest)
	b = binary.BigEndian.AppendUint32(b, uint32(http2.ErrCodeEnhanceYourCalm))
	if _, err := c.Write(append(b, reason...)); err == nil {
		_, _ = io.CopyN(io.Discard, c, lingerBytes)
	}
}

// wait notes since when something is unfinished. The timer is left running when it
// is finished, and looks at since when it ends: starting and stopping it for every
// frame would cost more than the frame.
func (g *Guard) wait() {
	if !g.reads.unfinished() {
		if g.since.Load() != 0 {
			g.since.Store(0)
		}
		return
	}
	if g.since.Load() != 0 && !g.reads.fresh {
		return
	}
	g.since.Store(max(1, int64(time.Since(g.began))))
	if g.armed.CompareAndSwap(false, true) {
		g.set(g.o.Timeout)
	}
}

func (g *Guard) set(d time.Duration) {
	t := &g.timer
	t.Lock()
	defer t.Unlock()
	switch {
	case t.stopped:
	case t.Timer == nil:
		t.Timer = time.AfterFunc(d, g.expire)
	default:
		t.Reset(d)
	}
}

func (g *Guard) expire() {
	since := g.since.Load()
	if since == 0 {
		g.armed.Store(false)
		if since = g.since.Load(); since == 0 || !g.armed.CompareAndSwap(false, true) {
			return
		}
	}
	if left := g.o.Timeout - (time.Since(g.began) - time.Duration(since)); left > 0 {
		g.set(left)
		return
	}
	g.o.Refused(LimitUnfinished)
	g.o.Close()
}

// Stop ends the waiting: the connection is closed, or does not speak HTTP/2. It may
// be called more than once.
func (g *Guard) Stop() {
	t := &g.timer
	t.Lock()
	defer t.Unlock()
	t.stopped = true
	if t.Timer != nil {
		t.Stop()
	}
}
