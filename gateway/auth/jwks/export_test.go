package jwks

import "net/http"

// NewWith is New with another transport than the network.
func NewWith(o Options, t http.RoundTripper) (*Source, error) { return newSource(o, t) }

// MaxWaiting is how many callers wait for a fetch at most.
const MaxWaiting = maxWaiting

// Parse reads a key set and says how many keys are of use.
func Parse(raw []byte) (int, error) {
	set, err := parse(raw)
	if err != nil {
		return 0, err
	}
	return len(set.all), nil
}

// ReadConfiguration is that of an issuer.
var ReadConfiguration = readConfiguration
