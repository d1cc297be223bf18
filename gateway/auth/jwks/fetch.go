package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

const (
	maxBody = 512 << 10 // Bytes of an answer, unpacked.
	maxKeys = 64        // Of a set: a token without a kid is tried with each.
)

// keySet is one answer of the issuer. It does not change.
type keySet struct {
	byID map[string][]keyOfSet
	all  []keyOfSet
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
		if k.alg == "" || k.alg == alg {
			keys = append(keys, k.key)
		}
	}
	return keys, len(candidates) > 0
}

func newClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           1,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect could lead to a host, or to plain text, that the operator
		// did not choose: it is then an answer that is not 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get fetches and reads the set once.
func (s *Source) get() (*keySet, error) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.o.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // Only read.
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s", res.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxBody {
		return nil, fmt.Errorf("answered more than %d bytes", maxBody)
	}
	return s.parse(raw)
}

// parse keeps the keys that verify signatures. What else a set holds (keys for
// encryption, symmetric or weak ones, of kinds we do not know) is left out, as
// RFC 7517, section 5, asks.
func (s *Source) parse(raw []byte) (*keySet, error) {
	var answer struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&answer); err != nil {
		return nil, errors.New("answered what is no JSON Web Key Set")
	}
	if answer.Keys == nil {
		return nil, errors.New("answered no list of keys")
	}
	if len(answer.Keys) > maxKeys {
		return nil, fmt.Errorf("answered %d keys; at most %d are taken", len(answer.Keys), maxKeys)
	}
	set := &keySet{byID: map[string][]keyOfSet{}}
	for i, rawKey := range answer.Keys {
		kid, k, err := parseKey(rawKey)
		if err != nil {
			s.o.Log.Info("a key of a key set is left out", "url", s.o.URL, "position", i, "kid", kid, "reason", err)
			continue
		}
		set.all = append(set.all, k)
		if kid != "" {
			set.byID[kid] = append(set.byID[kid], k)
		}
	}
	if len(set.all) == 0 {
		s.o.Log.Warn("a key set has no key that can be used", "url", s.o.URL)
	}
	return set, nil
}

func parseKey(raw json.RawMessage) (kid string, k keyOfSet, err error) {
	// Without the private option symmetric keys are refused, and the private
	// parts of others are not looked at.
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipX5UScheme: true})
	if err != nil {
		return "", keyOfSet{}, err
	}
	m := jwk.Marshal()
	if m.USE != "" && m.USE != jwkset.UseSig {
		return m.KID, keyOfSet{}, fmt.Errorf("its use is %q", m.USE)
	}
	return m.KID, keyOfSet{key: jwk.Key(), alg: m.ALG.String()}, auth.CheckKey(jwk.Key())
}
