package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// method is one that both edges offer.
type method struct {
	path string
	rpc  func(ctx context.Context, cc grpc.ClientConnInterface, o ...grpc.CallOption) error
}

// getUser has the class read, and costs 1.
func getUser(id string) method {
	return method{"/v1/users/" + id, func(ctx context.Context, cc grpc.ClientConnInterface, o ...grpc.CallOption) error {
		_, err := userv1.NewUserServiceClient(cc).GetUser(ctx, &userv1.GetUserRequest{UserId: id}, o...)
		return err
	}}
}

// getOverview is a composite of the class read, and costs 3.
func getOverview(id string) method {
	return method{"/v1/users/" + id + "/overview", func(ctx context.Context, cc grpc.ClientConnInterface, o ...grpc.CallOption) error {
		_, err := bffv1.NewBffServiceClient(cc).GetUserOverview(ctx, &bffv1.GetUserOverviewRequest{UserId: id}, o...)
		return err
	}}
}

// caller is somebody with a credential, before a gateway.
type caller struct {
	g             *gateway
	header, value string
}

func withKey(g *gateway, key string) caller { return caller{g, "X-API-Key", key} }

func withBearer(g *gateway, token string) caller {
	return caller{g, "Authorization", "Bearer " + token}
}

// asker makes a call over one edge.
type asker func(ctx context.Context) reply

// reply is what both edges say of a call, each in its words.
type reply struct {
	err    error // No answer, or one that is not as it should be.
	status int   // Of HTTP; 0 over gRPC.
	code   codes.Code

	reason, limit    string        // ErrorInfo
	retry            time.Duration // RetryInfo; -1: none
	retryAfter       string        // Retry-After, REST alone
	rateLimit, rules string        // RateLimit, RateLimit-Policy
	took             time.Duration
}

// is says whether the answer has this code, with its status, and this reason.
func (r reply) is(code codes.Code, reason string) bool {
	want := map[codes.Code]int{codes.OK: 200, codes.ResourceExhausted: 429, codes.Unavailable: 503, codes.Unauthenticated: 401, codes.PermissionDenied: 403}[code]
	return r.err == nil && r.code == code && r.reason == reason && (r.status == 0 || r.status == want)
}

func (r reply) String() string {
	return fmt.Sprintf("%d %v %s %s retry=%v/%q %v in %v", r.status, r.code, r.reason, r.limit, r.retry, r.retryAfter, r.err, r.took)
}

// both are the two edges' askers of a call.
func (c caller) both(m method) map[string]asker {
	return map[string]asker{"REST": c.overREST(m), "gRPC": c.overGRPC(m)}
}

// manyClient keeps more connections than the default one.
var manyClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func (c caller) overREST(m method) asker {
	return func(ctx context.Context) (r reply) {
		start := time.Now()
		defer func() { r.took = time.Since(start) }()
		req, err := http.NewRequestWithContext(ctx, "GET", c.g.url+m.path, nil)
		if err != nil {
			return reply{err: err}
		}
		req.Header.Set(c.header, c.value)
		res, err := manyClient.Do(req)
		if err != nil {
			return reply{err: err}
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		r = reply{err: err, status: res.StatusCode, retry: -1, retryAfter: res.Header.Get("Retry-After"),
			rateLimit: res.Header.Get("RateLimit"), rules: res.Header.Get("RateLimit-Policy")}
		if err == nil && r.status >= 400 {
			r.err = r.readProblem(res.Header.Get("Content-Type"), body)
		}
		return r
	}
}

func (r *reply) readProblem(kind string, body []byte) error {
	var p struct {
		Status  int
		Code    string
		Details []struct {
			Reason, RetryDelay string
			Metadata           map[string]string
		}
	}
	if err := json.Unmarshal(body, &p); err != nil || kind != "application/problem+json" || p.Status != r.status {
		return fmt.Errorf("no problem+json of a %d: %s %s", r.status, kind, body)
	}
	if err := r.code.UnmarshalJSON([]byte(strconv.Quote(p.Code))); err != nil {
		return err
	}
	for _, d := range p.Details {
		if d.Reason != "" {
			r.reason, r.limit = d.Reason, d.Metadata["limit"]
		}
		if d.RetryDelay != "" {
			var err error
			if r.retry, err = time.ParseDuration(d.RetryDelay); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c caller) overGRPC(m method) asker {
	return func(ctx context.Context) reply {
		start := time.Now()
		var header, trailer metadata.MD
		err := m.rpc(metadata.AppendToOutgoingContext(ctx, strings.ToLower(c.header), c.value), c.g.conn, grpc.Header(&header), grpc.Trailer(&trailer))
		st := status.Convert(err)
		r := reply{code: st.Code(), retry: -1, took: time.Since(start)}
		for _, d := range st.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				r.reason, r.limit = d.GetReason(), d.GetMetadata()["limit"]
			case *errdetails.RetryInfo:
				r.retry = d.GetRetryDelay().AsDuration()
			}
		}
		all := metadata.Join(header, trailer)
		r.rateLimit, r.rules = strings.Join(all.Get("ratelimit"), "; "), strings.Join(all.Get("ratelimit-policy"), "; ")
		return r
	}
}

// tally is what became of many calls. It is safe for concurrent use.
type tally struct {
	mu       sync.Mutex
	asked    int
	admitted int
	reasons  map[string]int
	others   []reply // Neither admitted nor refused with 429: some of them.
	slowest  time.Duration
}

func (y *tally) add(r reply) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.asked++
	y.slowest = max(y.slowest, r.took)
	switch {
	case r.is(codes.OK, ""):
		y.admitted++
	case r.err == nil && r.code == codes.ResourceExhausted && r.is(r.code, r.reason):
		if y.reasons == nil {
			y.reasons = map[string]int{}
		}
		y.reasons[r.reason]++
	case len(y.others) < 5:
		y.others = append(y.others, r)
	}
}

// next returns what was counted, and begins anew.
func (y *tally) next() tallied {
	y.mu.Lock()
	defer y.mu.Unlock()
	out := tallied{y.asked, y.admitted, y.reasons, y.others, y.slowest}
	y.asked, y.admitted, y.reasons, y.others, y.slowest = 0, 0, nil, nil, 0
	return out
}

// tallied is a tally that is over.
type tallied struct {
	asked, admitted int
	reasons         map[string]int
	others          []reply
	slowest         time.Duration
}

func (y tallied) String() string {
	return fmt.Sprintf("%d asked, %d admitted, refused %v, slowest %v", y.asked, y.admitted, y.reasons, y.slowest.Round(time.Millisecond))
}

// drive asks from n goroutines, each as often as every says, until stop is
// called, which waits for them.
func drive(t *testing.T, y *tally, n int, every time.Duration, ask asker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for ctx.Err() == nil {
				one, done := context.WithTimeout(t.Context(), patience) // It ends by itself: what is cut off is no answer.
				y.add(ask(one))
				done()
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// sample is the sum of the metric's series whose labels contain all of having.
func sample(t *testing.T, g *gateway, name string, having ...string) (sum float64) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(string(g.atAdmin(t, "/metrics").body)))
next:
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, label := range having {
			if !strings.Contains(rest, label) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			t.Fatal(lines.Text(), err)
		}
		sum += v
	}
	return sum
}

// becomes waits until a metric has a value.
func becomes(t *testing.T, g *gateway, name string, want float64) {
	t.Helper()
	eventually(t, patience, func() error {
		if got := sample(t, g, name); got != want {
			return fmt.Errorf("%s is %v, want %v", name, got, want)
		}
		return nil
	})
}

// newAPIKey makes a key with all scopes of the shop: what its holder sends, and
// its line of the configuration.
func newAPIKey(t *testing.T, id, owner, class string) (key string, line object) {
	t.Helper()
	key, k, err := auth.NewAPIKey(auth.APIKey{ID: id, Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	line = object{"id": k.ID, "hash": k.Hash, "owner": owner, "scopes": strings.Fields(all)}
	if class != "" {
		line["limit_class"] = class
	}
	return key, line
}

// keyed is a configuration with these classes and API keys, and no limit by
// address.
func keyed(classes object, keys ...object) object {
	return object{
		"limits": object{"address": object{"off": true}, "classes": classes},
		"auth":   object{"api_keys": object{"keys": keys}},
	}
}

// sharing is the configuration with Redis for the limits; more is name and value.
func sharing(config object, url string, more ...any) object {
	r := object{"url": url}
	for i := 0; i < len(more); i += 2 {
		r[more[i].(string)] = more[i+1]
	}
	config["limits"].(object)["redis"] = r
	return config
}

// once makes one call, and fails unless it has this outcome.
func once(t *testing.T, what string, ask asker, code codes.Code, reason string) reply {
	t.Helper()
	r := ask(bounded(t))
	if !r.is(code, reason) {
		t.Errorf("%s: %v; want %v %s", what, r, code, reason)
	}
	return r
}

// unless is an error unless the answer has this code and reason.
func (r reply) unless(code codes.Code, reason string) error {
	if r.is(code, reason) {
		return nil
	}
	return fmt.Errorf("%v; want %v %s", r, code, reason)
}
