package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// The form of an API key: `sluice_<id>_<secret>`. The id has no underscore, so
// that there is one way to read a key; the secret is letters and digits, so that
// a double click takes hold of it whole.
const (
	apiKeyPrefix = "sluice_"
	apiKeyHeader = "X-API-Key" //nolint:gosec // The name of a header.
	apiKeyIssuer = "api-key"
	hashPrefix   = "sha256:"
	maxAPIKey    = 256 // Bytes that are looked at.
	maxKeyName   = 63  // Bytes of an id.
	secretBits   = 256
	secretLength = 43 // Digits of base 62 for 256 bits.
	secretDigits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// APIKey is a key of a program, as the gateway keeps it: without the secret.
type APIKey struct {
	// ID names the key in logs, metrics and limits; it is part of the key. It
	// matches [a-z0-9][a-z0-9-]{0,62}.
	ID string
	// Hash is `sha256:` and the SHA-256 of the whole key in hexadecimal. The
	// secret has 256 bits of chance, which nobody can guess at any speed: a slow
	// hash, made for passwords, would only slow the gateway.
	Hash string
	// Owner is the subject the key speaks for. It may have several keys, so that
	// a new one can be in use before the old one is taken away.
	Owner string
	// Scopes are what the key may do.
	Scopes []string
	// Tenant is the tenant of the owner; empty means none.
	Tenant string
	// LimitClass stands in for the limit classes of the rules; empty means that
	// they hold.
	LimitClass string
	// Expires is when the key stops working; zero means never.
	Expires time.Time
}

// NewAPIKey makes a key: what its holder sends, which is kept nowhere, and what
// the gateway keeps. k says everything but the hash.
func NewAPIKey(k APIKey) (key string, stored APIKey, err error) {
	secret, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), secretBits))
	if err != nil {
		return "", APIKey{}, err
	}
	digits := secret.Text(62)
	key = apiKeyPrefix + k.ID + "_" + strings.Repeat("0", secretLength-len(digits)) + digits
	sum := sha256.Sum256([]byte(key))
	k.Hash = hashPrefix + hex.EncodeToString(sum[:])
	if _, err := k.check(); err != nil {
		return "", APIKey{}, err
	}
	return key, k, nil
}

// ValidAPIKeyID says whether id can name a key.
func ValidAPIKeyID(id string) bool {
	for i := range len(id) {
		b := id[i]
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && (b != '-' || i == 0) {
			return false
		}
	}
	return id != "" && len(id) <= maxKeyName
}

// check returns the hash, or what is wrong with the key.
func (k *APIKey) check() (sum [sha256.Size]byte, err error) {
	if !ValidAPIKeyID(k.ID) {
		return sum, fmt.Errorf("API key %q: an id is 1 to 63 of a-z, 0-9 and -, and does not begin with -", k.ID)
	}
	sum, err = k.sum()
	switch {
	case err != nil:
		return sum, err
	case !written.valid(k.Owner):
		return sum, fmt.Errorf("API key %s: the owner must have 1 to %d bytes, no control characters, and no space at an end", k.ID, MaxSubjectBytes)
	case k.Tenant != "" && !validSubject(k.Tenant):
		return sum, fmt.Errorf("API key %s: a tenant has up to 255 characters, and no spaces", k.ID)
	}
	for _, s := range k.Scopes {
		if !validScope(s) {
			return sum, fmt.Errorf("API key %s: a scope is a word without spaces and quotes (RFC 6749), not %q", k.ID, s)
		}
	}
	if scopeBytes(k.Scopes) > maxScopeBytes {
		return sum, fmt.Errorf("API key %s: scopes of %d bytes; want %d at most", k.ID, scopeBytes(k.Scopes), maxScopeBytes)
	}
	return sum, nil
}

// maxScopeBytes bounds the scopes of a credential that the configuration names, as the
// size of a token bounds its own: services must be able to read the assertion.
const maxScopeBytes = MaxToken / 4 * 3

func scopeBytes(scopes []string) (n int) {
	for _, s := range scopes {
		n += len(s) + 1
	}
	return n
}

// sum reads the hash.
func (k *APIKey) sum() (sum [sha256.Size]byte, err error) {
	text, ok := strings.CutPrefix(k.Hash, hashPrefix)
	n := 0
	if ok && len(text) == hex.EncodedLen(len(sum)) && text == strings.ToLower(text) {
		n, err = hex.Decode(sum[:], []byte(text))
	}
	if n != len(sum) || err != nil {
		return sum, fmt.Errorf("API key %s: the hash must be sha256: and 64 hexadecimal digits in lower case", k.ID)
	}
	return sum, nil
}

// storedKey is a key that can be shown; its principal is made once, and shared.
type storedKey struct {
	hash      [sha256.Size]byte
	principal *policy.Principal
	used      prometheus.Counter
	ofFile    bool // Of Load, which may fail for too long.
}

func (k *APIKey) store() (*storedKey, error) {
	sum, err := k.check()
	if err != nil {
		return nil, err
	}
	p := policy.NewPrincipal(k.Owner, apiKeyIssuer, k.Scopes, k.Expires)
	p.Tenant, p.APIKey, p.LimitClass = k.Tenant, k.ID, k.LimitClass
	return &storedKey{hash: sum, principal: p}, nil
}

// IDs returns the ids of the keys that can be shown now, sorted.
func (k *APIKeys) IDs() []string { return slices.Sorted(maps.Keys(*k.keys.Load())) }

// Verify returns whom a key stands for, or a status error to answer with, and counts
// its use. Why is for the operator alone, where there is an error: a caller is not
// told whether a key's id is known.
func (k *APIKeys) Verify(key string) (p *policy.Principal, why string, err error) {
	stored, why, err := k.find(key)
	if err != nil {
		return nil, why, err
	}
	stored.used.Inc()
	return stored.principal, "", nil
}

// find is Verify that counts nothing.
func (k *APIKeys) find(key string) (good *storedKey, why string, err error) {
	id, ok := keyID(key)
	if !ok {
		return nil, "the API key is malformed", refuse(reasonKeyInvalid, "the API key is not valid")
	}
	var whole [maxAPIKey]byte // A copy on the stack: the hash wants bytes.
	sum := sha256.Sum256(whole[:copy(whole[:], key)])
	stored := (*k.keys.Load())[id]
	known := stored != nil
	if !known {
		stored = k.nobody // So that an unknown id costs what a wrong secret does.
	}
	if same := subtle.ConstantTimeCompare(sum[:], stored.hash[:]); same != 1 || !known {
		why = "no API key has the id " + id
		if known {
			why = "the secret of the API key " + id + " is wrong"
		}
		return nil, why, refuse(reasonKeyInvalid, "the API key is not valid")
	}
	if stored.ofFile && k.tooOld() {
		return nil, "the file of the API key " + id + " cannot be read for " + k.o.MaxAge.String() + " and longer",
			refuse(reasonKeyInvalid, "the API key is not valid")
	}
	if p := stored.principal; !p.Expires.IsZero() && !k.o.Now().Before(p.Expires) {
		return nil, "the API key " + id + " has expired", refuse(reasonKeyExpired, "the API key has expired")
	}
	return stored, "", nil
}

// keyID reads the id of a key that has the form of one.
func keyID(key string) (string, bool) {
	if len(key) > maxAPIKey || !strings.HasPrefix(key, apiKeyPrefix) {
		return "", false
	}
	id, secret, _ := strings.Cut(key[len(apiKeyPrefix):], "_")
	if !ValidAPIKeyID(id) || len(secret) != secretLength {
		return "", false
	}
	for i := range len(secret) {
		if strings.IndexByte(secretDigits, secret[i]) < 0 {
			return "", false
		}
	}
	return id, true
}

var errHeader = errors.New("the header of API keys must be a name such as X-API-Key, and not Authorization")

func validHeader(name string) bool {
	for i := range len(name) {
		b := name[i] | 0x20
		if (b < 'a' || b > 'z') && (i == 0 || (name[i] < '0' || name[i] > '9') && name[i] != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 64 && !strings.EqualFold(name, "authorization")
}

func orDefaultLog(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.Default()
	}
	return log
}
