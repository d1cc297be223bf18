package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// DiscoveryURL is where an issuer's configuration stands by default (OpenID
// Connect Discovery 1.0, section 4).
func DiscoveryURL(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// keySetURL is the URL of the key set: the configured one, or what the issuer's
// configuration says now, for an issuer may move it.
func (s *Source) keySetURL(ctx context.Context) (string, error) {
	if s.o.Discovery == "" {
		return s.o.URL, nil
	}
	raw, err := s.get(ctx, s.o.Discovery, "application/json")
	if err != nil {
		return "", fmt.Errorf("the issuer's configuration: %w", err)
	}
	found, err := readConfiguration(raw, s.o.Issuer)
	if err != nil {
		return "", failure{outcomeDiscovery, err}
	}
	// A document from another machine must not send us to a port of this one.
	if !local(s.o.Discovery) && local(found) {
		return "", failure{outcomeDiscovery, errors.New("the issuer's configuration names a key set on a loopback address")}
	}
	return found, nil
}

// readConfiguration takes a document for the issuer's only if it says so itself,
// to the letter (section 4.3): else one issuer of a host could pass for another.
func readConfiguration(raw []byte, issuer string) (string, error) {
	// Into a map, for the fields of a struct match names of any case.
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return "", errors.New("the issuer's configuration is no JSON object")
	}
	var says, found string
	if json.Unmarshal(members["issuer"], &says) != nil || says != issuer {
		return "", fmt.Errorf("the issuer's configuration is that of %.200q, not of %q", says, issuer)
	}
	if json.Unmarshal(members["jwks_uri"], &found) != nil {
		return "", errors.New("the issuer's configuration names no jwks_uri")
	}
	if err := checkURL(found); err != nil {
		return "", fmt.Errorf("the jwks_uri of the issuer's configuration: %w", err)
	}
	return found, nil
}

func local(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && loopback(u.Hostname())
}
