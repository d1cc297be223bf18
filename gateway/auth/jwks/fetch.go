package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

const (
	maxBody = 512 << 10 // Bytes of an answer, unpacked.
	maxKeys = 64        // Of a set, that can be used.
	// A token without a kid is tried with each key of its algorithm, and a forged
	// one costs all of them. OpenID Connect Core, 10.1, wants a kid as soon as
	// there are two.
	maxWithoutID = 8
)

// keySet is one answer of the issuer. It does not change.
type keySet struct {
	byID    map[string][]keyOfSet
	all     []keyOfSet
	skipped []skippedKey
	fetched time.Time
}

// skippedKey is a key of the set that cannot be used, and why.
type skippedKey struct {
	position int
	kid      string
	err      error
}

func (k skippedKey) String() string {
	return fmt.Sprintf("key %d (kid %.100q): %v", k.position+1, k.kid, k.err)
}

// skippedBy counts the keys that were skipped for a reason.
func (s *keySet) skippedBy(reason string) (n int) {
	for _, k := range s.skipped {
		if reasonOf(k.err) == reason {
			n++
		}
	}
	return n
}

type keyOfSet struct {
	key any
	alg string // What the issuer restricts the key to, or "".
}

// find returns the keys for a header, and whether the set knows its kid.
func (s *keySet) find(alg, kid string) (keys []any, known bool) {
	if s == nil {
		return nil, false
	}
	candidates := s.all
	if kid != "" {
		candidates = s.byID[kid]
	}
	for _, k := range candidates {
		if (k.alg == "" || k.alg == alg) && auth.Suits(alg, k.key) {
			keys = append(keys, k.key)
		}
	}
	if kid == "" && len(keys) > maxWithoutID {
		keys = nil
	}
	return keys, len(candidates) > 0
}

func newTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true, // A key set must not be what a host sent behind its last answer; and it is asked for seldom.
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func newClient(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: t,
		// A redirect could lead to a host, or to plain text, that the operator
		// did not choose: it is then an answer that is not 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetchSet fetches and reads the set once.
func (s *Source) fetchSet() (*keySet, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.o.Timeout)
	defer cancel()
	url, err := s.keySetURL(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := s.get(ctx, url, "application/jwk-set+json, application/json")
	if err != nil {
		return nil, err
	}
	return parse(raw)
}

// get fetches a document of bounded size.
func (s *Source) get(ctx context.Context, url, accept string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // Only read.
	if res.StatusCode != http.StatusOK {
		return nil, failure{outcomeStatus, fmt.Errorf("answered %.100q", res.Status)}
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxBody {
		return nil, failure{outcomeTooLarge, fmt.Errorf("answered more than %d bytes", maxBody)}
	}
	return raw, nil
}

// parse keeps the keys that verify signatures. What else a set holds (keys for
// encryption, symmetric or weak ones, of kinds we do not know, malformed ones) is
// skipped, as RFC 7517, section 5, asks: one of them must not take the others away. A
// set of which nothing is left is no good answer: an issuer's mistake must not lock
// everyone out.
func parse(raw []byte) (*keySet, error) {
	list, err := listOfKeys(raw)
	if err != nil {
		return nil, failure{outcomeMalformed, err}
	}
	set := &keySet{byID: map[string][]keyOfSet{}}
	for i, rawKey := range list {
		kid, k, err := parseKey(rawKey)
		if err != nil {
			set.skipped = append(set.skipped, skippedKey{i, kid, err})
			continue
		}
		set.all = append(set.all, k)
		if kid != "" {
			set.byID[kid] = append(set.byID[kid], k)
		}
	}
	if len(set.all) > maxKeys {
		return nil, failure{outcomeTooLarge, fmt.Errorf("answered %d keys that can be used; at most %d are taken", len(set.all), maxKeys)}
	}
	if len(set.all) == 0 {
		return nil, failure{outcomeUnusable, noneUsable(set.skipped)}
	}
	return set, nil
}

func noneUsable(skipped []skippedKey) error {
	if len(skipped) == 0 {
		return errors.New("answered no key")
	}
	return fmt.Errorf("answered no key that can be used; of %d the first is %s", len(skipped), skipped[0])
}

func listOfKeys(raw []byte) ([]json.RawMessage, error) {
	var answer map[string]json.RawMessage
	if json.Unmarshal(raw, &answer) != nil {
		return nil, errors.New("answered what is no JSON Web Key Set")
	}
	var list []json.RawMessage
	if json.Unmarshal(answer["keys"], &list) != nil || list == nil {
		return nil, errors.New("answered no list of keys")
	}
	return list, nil
}
