package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// Retry says how a call that failed is tried again.
type Retry struct {
	// MaxAttempts counts the first one too: 1 means that nothing is tried again.
	MaxAttempts int
	// Codes are those that may be tried again, as a set of bits by code.
	Codes uint32
	// Backoff bounds the first wait, MaxBackoff every one: each is drawn at random
	// below its bound, which doubles.
	Backoff, MaxBackoff time.Duration
	// AttemptTimeout bounds one attempt; 0 means all the time that is left.
	AttemptTimeout time.Duration
}

// Retries says whether a failure with this code may be tried again.
func (r *Retry) Retries(c codes.Code) bool { return r.MaxAttempts > 1 && r.Codes&(1<<c) != 0 }

// Cache says how long answers are kept. Nil means that none are.
type Cache struct {
	// Public says that everyone who may call gets the same answer; otherwise an
	// answer is kept for the very principal that it was made for.
	Public bool
	// TTL is how long an answer is fresh.
	TTL time.Duration
	// StaleWhileRevalidate and StaleIfError are how long it is given after that:
	// while a new one is fetched, and when there is none to be had.
	StaleWhileRevalidate, StaleIfError time.Duration
	// NegativeTTL is how long NOT_FOUND is kept; 0 means not at all.
	NegativeTTL time.Duration
	// Vary are the paths of the fields that answers differ by; empty means the whole
	// request. On a plain HTTP route they are names of headers.
	Vary []string
	// Tags are names, with field paths in braces, by which writes find answers.
	Tags []string
}

// Defaults of Retry and Branches.
const (
	DefaultAttempts    = 3
	DefaultBackoff     = 25 * time.Millisecond
	DefaultMaxBackoff  = 250 * time.Millisecond
	DefaultBranchShare = 90 // percent
)

var errCacheWrites = errors.New("cache needs idempotent: true: calls that come at once are made as one, and others not at all")

var errRetryTwice = errors.New("retry needs idempotent: true: calling twice must have the effect of calling once")

// CompileRetry resolves a retry option. Without one (nil), what is idempotent has the
// defaults, and nothing else is tried again.
func CompileRetry(from *policyv1.Retry, idempotent bool) (Retry, error) {
	r := Retry{MaxAttempts: DefaultAttempts, Codes: 1 << codes.Unavailable, Backoff: DefaultBackoff, MaxBackoff: DefaultMaxBackoff}
	switch {
	case from == nil && !idempotent:
		return Retry{MaxAttempts: 1}, nil
	case from == nil:
		return r, nil
	case !idempotent:
		return r, errRetryTwice
	case from.GetMaxAttempts() < 0 || from.GetMaxAttempts() > 10:
		return r, fmt.Errorf("retry.max_attempts %d must be from 1 to 10", from.GetMaxAttempts())
	}
	if n := from.GetMaxAttempts(); n > 0 {
		r.MaxAttempts = int(n)
	}
	if len(from.GetCodes()) > 0 {
		r.Codes = 0
		for _, name := range from.GetCodes() {
			c, err := ParseCode(name)
			if err != nil {
				return r, fmt.Errorf("retry.codes: %w", err)
			}
			if r.Codes&(1<<c) != 0 {
				return r, fmt.Errorf("retry.codes: %s is there twice", name)
			}
			r.Codes |= 1 << c
		}
	}
	var err error
	if r.Backoff, err = duration("retry.backoff", from.GetBackoff(), r.Backoff); err != nil {
		return r, err
	}
	if r.MaxBackoff, err = duration("retry.max_backoff", from.GetMaxBackoff(), max(r.MaxBackoff, r.Backoff)); err != nil {
		return r, err
	}
	if r.MaxBackoff < r.Backoff {
		return r, fmt.Errorf("retry.max_backoff %v is below retry.backoff %v", r.MaxBackoff, r.Backoff)
	}
	r.AttemptTimeout, err = duration("retry.attempt_timeout", from.GetAttemptTimeout(), 0)
	return r, err
}

// once refuses a list that has something twice: one of the two is not what its author
// meant.
func once(option string, list []string) error {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			return fmt.Errorf("%s: %q is there twice", option, s)
		}
	}
	return nil
}

// ParseCode reads the name of a gRPC code, such as UNAVAILABLE. OK is none.
func ParseCode(name string) (codes.Code, error) {
	var c codes.Code
	if err := c.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil || c == codes.OK || strings.ToUpper(name) != name {
		return 0, fmt.Errorf("%q is no gRPC code of a failure, such as UNAVAILABLE", name)
	}
	return c, nil
}

// CompileCache resolves a cache option; nil means that nothing is kept. What its
// paths lead to is for the caller to check.
func CompileCache(from *policyv1.Cache) (*Cache, error) {
	if from == nil {
		return nil, nil //nolint:nilnil // No option, no cache.
	}
	if from.GetScope() == policyv1.CacheScope_CACHE_SCOPE_UNSPECIFIED {
		return nil, errors.New("cache.scope is missing: CACHE_SCOPE_PUBLIC or CACHE_SCOPE_PRINCIPAL")
	}
	if err := errors.Join(once("cache.vary", from.GetVary()), once("cache.tags", from.GetTags())); err != nil {
		return nil, err
	}
	c := &Cache{Public: from.GetScope() == policyv1.CacheScope_CACHE_SCOPE_PUBLIC, Vary: from.GetVary(), Tags: from.GetTags()}
	for _, d := range []struct {
		name string
		from *durationpb.Duration
		to   *time.Duration
	}{
		{"cache.ttl", from.GetTtl(), &c.TTL},
		{"cache.stale_while_revalidate", from.GetStaleWhileRevalidate(), &c.StaleWhileRevalidate},
		{"cache.stale_if_error", from.GetStaleIfError(), &c.StaleIfError},
		{"cache.negative_ttl", from.GetNegativeTtl(), &c.NegativeTTL},
	} {
		var err error
		if *d.to, err = duration(d.name, d.from, 0); err != nil {
			return nil, err
		}
	}
	if c.TTL <= 0 {
		return nil, errors.New("cache.ttl is missing")
	}
	return c, nil
}

func (m *Method) fillTraffic(r *policyv1.MethodRule) error {
	rule := &m.Rule
	var err error
	if m.Streaming() || !r.GetIdempotent() { // A service's defaults may say so for others of its methods.
		rule.Retry = Retry{MaxAttempts: 1}
	} else if rule.Retry, err = CompileRetry(r.GetRetry(), r.GetIdempotent()); err != nil {
		return err
	}
	if !m.Streaming() && r.GetIdempotent() { // As with retries.
		if err := m.fillCache(r.GetCache()); err != nil {
			return err
		}
	}
	if rule.Invalidates = r.GetInvalidates(); len(rule.Invalidates) > 0 && m.Streaming() {
		return errors.New("invalidates is for unary methods: a stream changes things as long as it lasts")
	}
	if err := errors.Join(once("invalidates", rule.Invalidates), m.compileTags("invalidates", rule.Invalidates)); err != nil {
		return err
	}
	rule.BranchShare = DefaultBranchShare
	if p := int(r.GetBranches().GetSharePercent()); p != 0 {
		if p < 1 || p > 100 {
			return fmt.Errorf("branches.share_percent %d must be from 1 to 100", p)
		}
		rule.BranchShare = p
	}
	return nil
}

// fillCache checks what a cache's paths lead to. What a service decides for the
// principal must not be shown to another.
func (m *Method) fillCache(from *policyv1.Cache) error {
	c, err := CompileCache(from)
	if err != nil || c == nil {
		return err
	}
	if c.Public && m.Rule.OwnerByService {
		return errors.New("cache.scope PUBLIC with owner_checked_by_service: the answer is not the same for everyone")
	}
	for _, path := range c.Vary {
		if _, err := CompileKeyField(m.Descriptor.Input(), path); err != nil {
			return fmt.Errorf("cache.vary: %w", err)
		}
	}
	if err := m.compileTags("cache.tags", c.Tags); err != nil {
		return err
	}
	m.Rule.Cache = c
	return nil
}

// overrideTraffic puts what the configuration says in the place of the rule's.
func (m *Method) overrideTraffic(o Override) error {
	if m.Streaming() && (o.Retry != nil || o.Cache != nil) {
		return errors.New("retry and cache are for unary methods")
	}
	if o.Retry != nil {
		r, err := CompileRetry(o.Retry, m.Rule.Idempotent)
		if err != nil {
			return err
		}
		m.Rule.Retry = r
	}
	if o.NoCache {
		if o.Cache != nil {
			return errors.New("cache and cache_off exclude each other")
		}
		m.Rule.Cache = nil
	}
	if o.Cache != nil && !m.Rule.Idempotent {
		return errCacheWrites
	}
	if err := m.fillCache(o.Cache); err != nil {
		return err
	}
	if o.BranchShare > 0 {
		m.Rule.BranchShare = o.BranchShare
	}
	return nil
}
