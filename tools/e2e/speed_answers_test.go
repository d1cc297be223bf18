package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// TestPartialAnswers: what is left of an answer under a mask is what the whole
// answer has there, composites and streams included.
func TestPartialAnswers(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{})
	token := g.token(t)
	for _, c := range []struct{ path, mask string }{
		{"/v1/users/ada", "userId,email"},
		{"/v1/users/ada", "create_time"},
		{"/v1/users/ada/orders?page_size=3", "orders.lines.price.units,orders.orderId,nextPageToken"},
		{"/v1/users/ada/profile", "links,languages"},
		{"/v1/users/ada/overview", "user.displayName,recentOrders.lines.sku,partial"},
		{"/v1/users/ada/overview?order_limit=2", "profile"},
		{"/v1/orders/ada-0012/details", "order.total,user.email,profile.links"},
	} {
		var whole any
		g.rest(t, "GET", c.path, token, "").want(t, 200, &whole)
		want := pruned(whole, strings.Split(c.mask, ","))
		sep := "?"
		if strings.Contains(c.path, "?") {
			sep = "&"
		}
		for way, ask := range map[string]struct{ path, header string }{
			"fields":           {c.path + sep + "fields=" + c.mask, ""},
			"$fields":          {c.path + sep + "%24fields=" + c.mask, ""},
			"X-Goog-FieldMask": {c.path, c.mask},
		} {
			header := []string{"X-Goog-FieldMask", ask.header}
			if ask.header == "" {
				header = nil
			}
			a, err := g.send(bounded(t), "GET", ask.path, token, nil, header...)
			if err != nil {
				t.Fatal(err)
			}
			var got any
			a.want(t, 200, &got)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s %s, %s: %s, want %v", c.path, c.mask, way, a.body, want)
			}
		}
	}
	res, err := g.open(bounded(t), "GET", "/v1/orders/ada-0012:watch?fields=state", token, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != `{"result":{"state":"ORDER_STATE_PLACED"}}`+"\n" {
		t.Errorf("watch: %q, %v", line, err)
	}
}

// pruned is v without what no path leads to. Names in v are lowerCamelCase.
func pruned(v any, paths []string) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = pruned(v[i], paths)
		}
		return out
	case map[string]any:
		out, below := map[string]any{}, map[string][]string{}
		for _, p := range paths {
			name, rest, deeper := strings.Cut(p, ".")
			if name = strings.ReplaceAll(name, "create_time", "createTime"); deeper {
				below[name] = append(below[name], rest)
			} else if value, ok := v[name]; ok {
				out[name] = value
			}
		}
		for name, rest := range below {
			if value, ok := v[name]; ok {
				out[name] = pruned(value, rest)
			}
		}
		return out
	default:
		return v
	}
}

// TestUnknownPaths of a mask are named, all of them, before any service is called.
func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	g := startScripted(t, nil).gateway(t) // Whose services expect no call.
	token := g.token(t)
	for _, path := range []string{"/v1/users/ada", "/v1/users/ada/overview", "/v1/orders/ada-0012/details", "/v1/orders/ada-0012:watch"} {
		var p struct {
			Code   string
			Errors []struct{ Field, Reason string }
		}
		g.rest(t, "GET", path+"?fields=nope,also.not", token, "").want(t, 400, &p)
		if p.Code != "INVALID_ARGUMENT" || len(p.Errors) != 2 || p.Errors[0].Reason != `unknown path "nope"` || p.Errors[1].Reason != `unknown path "also.not"` {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// unpacked are the decoders of clients, by Content-Encoding.
var unpacked = map[string]func(io.Reader) ([]byte, error){
	"": io.ReadAll,
	"gzip": func(r io.Reader) ([]byte, error) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	},
	"zstd": func(r io.Reader) ([]byte, error) {
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
	},
}

// TestLargeAnswers: up to the bound, answers arrive whole, over both edges, and
// however they are packed. One that is larger is 502.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"5 MB": 5e6, "15 MB": 15e6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := ordersOf(size)
			g := startScripted(t, map[string]script{"ListOrders": answering(wireOf(t, want))}).gateway(t)
			token := g.token(t)
			plain := g.rest(t, "GET", "/v1/users/ada/orders", token, "").body
			var inJSON orderv1.ListOrdersResponse
			if err := protojson.Unmarshal(plain, &inJSON); err != nil || !proto.Equal(&inJSON, want) {
				t.Errorf("another list, %v", err)
			}
			for _, coding := range []string{"gzip", "zstd"} {
				a, err := g.send(bounded(t), "GET", "/v1/users/ada/orders", token, nil, "Accept-Encoding", coding)
				if got := a.header.Get("Content-Encoding"); err != nil || a.status != 200 || got != coding || len(a.body) > len(plain)/4 {
					t.Fatalf("%d, %v, %q for %q, %d bytes of %d", a.status, err, got, coding, len(a.body), len(plain))
				}
				if body, err := unpacked[coding](bytes.NewReader(a.body)); err != nil || !bytes.Equal(body, plain) {
					t.Errorf("%s: %v, or another list", coding, err)
				}
			}
			got, err := orderv1.NewOrderServiceClient(g.conn).ListOrders(as(t, token), &orderv1.ListOrdersRequest{UserId: "ada"}, grpc.MaxCallRecvMsgSize(1<<25))
			if err != nil || !proto.Equal(got, want) {
				t.Errorf("over gRPC: another list, %v", err)
			}
		})
	}
	g := startScripted(t, map[string]script{"GetUser": answering(wireOf(t, &userv1.User{DisplayName: strings.Repeat("x", 16<<20)}))}).gateway(t)
	badUpstream(t, g, g.rest(t, "GET", "/v1/users/ada", g.token(t), ""), "xxx")
}

// TestSmallAnswersStayAsTheyAre, and those of callers who accept nothing else.
func TestSmallAnswersStayAsTheyAre(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{})
	token := g.token(t)
	for _, c := range []struct{ path, accept, want string }{
		{"/v1/users/ada", "gzip, zstd", ""},
		{"/v1/users/ada", "gzip, identity;q=0", "gzip"},
		{"/v1/users/ada/orders?page_size=20", "gzip, deflate, br, zstd", "zstd"},
		{"/v1/users/ada/overview", "gzip;q=1, zstd;q=0.5", "gzip"},
		{"/v1/users/ada/overview", "br", ""},
		{"/v1/users/ada/overview", "gzip;q=0", ""},
	} {
		plain := g.rest(t, "GET", c.path, token, "")
		for _, verb := range []string{http.MethodGet, http.MethodHead} {
			a, err := g.send(bounded(t), verb, c.path, token, nil, "Accept-Encoding", c.accept)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.header.Get("Content-Encoding"); a.status != 200 || got != c.want || !strings.Contains(strings.Join(a.header.Values("Vary"), ","), "Accept-Encoding") {
				t.Errorf("%s %s of %q: %d %q, Vary %q", verb, c.path, c.accept, a.status, got, a.header.Values("Vary"))
			}
			if verb == http.MethodHead {
				continue
			}
			if body, err := unpacked[c.want](bytes.NewReader(a.body)); err != nil || !bytes.Equal(body, plain.body) {
				t.Errorf("%s of %q: %v\n%s\n%s", c.path, c.accept, err, body, plain.body)
			}
		}
	}
}

// secret is in every answer that cannot be read.
const secret = "the-password-of-the-database"

// TestMalformedAnswers: 502, the reason, and nothing of what the service said.
// Composites go without a branch that is optional, and fail with one that is not.
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	user := wireOf(t, &userv1.User{UserId: "ada", Email: "ada@example.com"})
	for name, bad := range map[string][]byte{
		"cut off":       append(user, 0x1a, 0x7f, 's'),
		"not UTF-8":     append(user, 0x1a, 2, 0xff, 0xfe),
		"field 0":       append(user, 0x02, 1, 'x'),
		"endless group": append(user, 0xa3, 0x06),
		"endless tag":   append(user, bytes.Repeat([]byte{0xff}, 11)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := append([]byte("\x1a\x1c"+secret), bad...)
			g := startScripted(t, map[string]script{
				"GetUser": answering(user), "GetProfile": answering(bad), "ListOrders": answering(wireOf(t, ordersOf(1))), "GetOrder": answering(bad),
			}).gateway(t)
			token := g.token(t)
			badUpstream(t, g, g.rest(t, "GET", "/v1/users/ada/profile", "", ""), secret)
			badUpstream(t, g, g.rest(t, "GET", "/v1/users/ada/profile?fields=location,etag", "", ""), secret)
			badUpstream(t, g, g.rest(t, "GET", "/v1/orders/ada-0001/details", token, ""), secret)

			a := g.rest(t, "GET", "/v1/users/ada/overview", token, "")
			var o bffv1.UserOverview
			if err := protojson.Unmarshal(a.body, &o); a.status != 200 || err != nil || bytes.Contains(a.body, []byte(secret)) {
				t.Fatalf("%d %v: %s", a.status, err, a.body)
			}
			p := o.GetPartial()
			if len(p) != 1 || p[0].GetBranch() != "profile" || p[0].GetCode() != "INTERNAL" || p[0].GetRetryable() || o.GetProfile() != nil ||
				o.GetUser().GetUserId() != "ada" || len(o.GetRecentOrders()) != 1 {
				t.Errorf("%s", a.body)
			}
			// The gRPC edge passes bytes on; what it builds of them itself it has read.
			if _, err := bffv1.NewBffServiceClient(g.conn).GetOrderDetails(as(t, token), &bffv1.GetOrderDetailsRequest{OrderId: "ada-0001"}); status.Code(err) != codes.Internal || strings.Contains(err.Error(), secret) {
				t.Errorf("gRPC: %v", err)
			}
		})
	}
}

// badUpstream: 502 with its reason, nothing of the service's text, and a line in
// the log under the request's id.
func badUpstream(t *testing.T, g *gateway, a answer, leak string) {
	t.Helper()
	var p struct {
		Code    string
		ID      string `json:"request_id"`
		Details []struct{ Reason string }
	}
	a.want(t, 502, &p)
	if p.Code != "INTERNAL" || len(p.Details) != 1 || p.Details[0].Reason != "BAD_UPSTREAM_RESPONSE" || strings.Contains(string(a.body), leak) {
		t.Errorf("%s", a.body)
	}
	eventually(t, patience, func() error {
		for line := range strings.Lines(g.stderr.String()) {
			var l struct {
				Msg, Level, Error string
				ID                string `json:"request_id"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "upstream failed" && l.Level == "WARN" && l.ID == p.ID && l.Error != "" {
				return nil
			}
		}
		return fmt.Errorf("the log says nothing of %s", p.ID)
	})
}
