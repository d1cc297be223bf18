package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

var update = flag.Bool("update", false, "write the golden files")

// TestScenario runs one table over both edges, with the services in the
// gateway's process and behind TCP: four runs, one outcome, which is the
// golden file.
func TestScenario(t *testing.T) {
	steps := scenario()
	var first []string
	for _, place := range []string{"in-process", "remote"} {
		for _, edge := range []string{"REST", "gRPC"} {
			t.Run(edge+"/"+place, func(t *testing.T) {
				var g *gatewaytest.Gateway
				if place == "remote" {
					g = remoteShop(t).Gateway
				} else {
					g = gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...))
				}
				r := &runner{g: g, ids: map[string]string{}}
				var got []string
				for _, c := range steps {
					got = append(got, r.step(t, c, edge == "REST"))
				}
				if first == nil {
					first = got
					golden(t, "scenario.golden", strings.Join(got, "\n")+"\n")
				}
				for i := range got {
					if got[i] != first[i] && !skipsREST(steps[i]) {
						t.Errorf("outcome differs:\n%s\n%s", got[i], first[i])
					}
				}
			})
		}
	}
}

// skipsREST: a step without a route has no outcome over REST to compare with.
func skipsREST(c call) bool { return c.path == "" }

type runner struct {
	g      *gatewaytest.Gateway
	placed string
	ids    map[string]string
}

// step makes the call over one edge, checks it, and returns its outcome in
// words that do not depend on the edge, the time or generated ids.
func (r *runner) step(t *testing.T, c call, overREST bool) string {
	t.Helper()
	var out outcome
	if overREST && c.path != "" {
		out = r.rest(t, c)
	} else {
		out = r.grpc(t, c)
	}
	if out.code != c.want {
		t.Errorf("%s: code %v, want %v: %s", c.name, out.code, c.want, out.text)
	}
	for _, s := range c.shows {
		if !strings.Contains(out.text, s) {
			t.Errorf("%s: %s not in %s", c.name, s, out.text)
		}
	}
	if c.name == "place an order" {
		var o struct{ OrderID string }
		if err := json.Unmarshal([]byte(out.text), &o); err != nil || o.OrderID == "" {
			t.Fatalf("%s: no order id in %s", c.name, out.text)
		}
		r.placed = o.OrderID
	}
	return fmt.Sprintf("%s\n\t%v %s", c.name, out.code, r.stable(out.text))
}

type outcome struct {
	code codes.Code
	text string
}

func (r *runner) rest(t *testing.T, c call) outcome {
	t.Helper()
	path := strings.ReplaceAll(c.path, "placed", r.placed)
	req, err := http.NewRequestWithContext(t.Context(), c.verb, r.g.URL+path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.header[0] != "" {
		req.Header.Set(c.header[0], c.header[1])
	}
	if a := r.credential(t, c.as); a != "" {
		req.Header.Set("Authorization", a)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= 400 {
		return restFailure(t, c, res, body)
	}
	if want := max(c.status, 200); res.StatusCode != want {
		t.Errorf("%s: status %d, want %d", c.name, res.StatusCode, want)
	}
	if ok, err := filepath.Match(c.location, res.Header.Get("Location")); !ok || err != nil {
		t.Errorf("%s: Location %q, want %q", c.name, res.Header.Get("Location"), c.location)
	}
	return outcome{codes.OK, restSuccess(t, res, body)}
}

func restSuccess(t *testing.T, res *http.Response, body []byte) string {
	t.Helper()
	text := ""
	switch ct := res.Header.Get("Content-Type"); {
	case len(body) == 0:
		text = "{}"
	case ct == "application/json":
		text = compact(t, body)
	case ct == "application/x-ndjson":
		for line := range bytes.Lines(body) {
			var chunk struct{ Result json.RawMessage }
			if err := json.Unmarshal(line, &chunk); err != nil {
				t.Fatal(err)
			}
			text += compact(t, chunk.Result)
		}
	default:
		text = fmt.Sprintf("%s, %d bytes", ct, len(body))
	}
	if v := res.Header.Get("Idempotency-Replayed"); v != "" {
		text += " idempotency-replayed: " + v
	}
	return text
}

func restFailure(t *testing.T, c call, res *http.Response, body []byte) outcome {
	t.Helper()
	var p struct {
		Status            int
		Code, Detail      string
		Title, Request_id string //nolint:revive // the JSON's name
		Errors            []struct{ Field, Reason string }
		Details           []struct{ Reason string }
	}
	if err := json.Unmarshal(body, &p); err != nil || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s: %d is no problem: %s %s", c.name, res.StatusCode, res.Header.Get("Content-Type"), body)
	}
	if p.Status != res.StatusCode || p.Title == "" || p.Request_id != res.Header.Get("X-Request-Id") {
		t.Errorf("%s: problem does not agree with its answer: %s", c.name, body)
	}
	text := p.Detail
	for _, d := range p.Details {
		text += " " + d.Reason
	}
	for _, e := range p.Errors {
		text += fmt.Sprintf(` {"field":%q,"reason":%q}`, e.Field, e.Reason)
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(`"` + p.Code + `"`)); err != nil {
		t.Fatal(err)
	}
	return outcome{code, text}
}

func (r *runner) grpc(t *testing.T, c call) outcome {
	t.Helper()
	full := "/shop." + c.rpc
	desc, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(full[1:], "/", ".")))
	if err != nil {
		t.Fatal(err)
	}
	md := desc.(protoreflect.MethodDescriptor)
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.Output().FullName())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if a := r.credential(t, c.as); a != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", a)
	}
	req := r.placedIn(c.req)
	if md.IsStreamingServer() {
		return stream(t, ctx, r.g.Conn, full, req, mt)
	}
	out := mt.New().Interface()
	var header metadata.MD
	if err := r.g.Conn.Invoke(ctx, full, req, out, grpc.Header(&header)); err != nil {
		return grpcFailure(err)
	}
	text := render(t, out)
	if v := header.Get("idempotency-replayed"); len(v) > 0 {
		text += " idempotency-replayed: " + v[0]
	}
	return outcome{codes.OK, text}
}

func stream(t *testing.T, ctx context.Context, cc *grpc.ClientConn, full string, req proto.Message, mt protoreflect.MessageType) outcome {
	t.Helper()
	st, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.SendMsg(req), st.CloseSend()); err != nil {
		t.Fatal(err)
	}
	text := ""
	for {
		m := mt.New().Interface()
		err := st.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return outcome{codes.OK, text}
		}
		if err != nil {
			return grpcFailure(err)
		}
		text += render(t, m)
	}
}

func grpcFailure(err error) outcome {
	st := status.Convert(err)
	text := st.Message()
	var fields string
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				fields += fmt.Sprintf(` {"field":%q,"reason":%q}`, v.GetField(), v.GetDescription())
			}
		case *errdetails.ErrorInfo:
			text += " " + d.GetReason()
		default:
			text += " " // Problem details without a reason.
		}
	}
	return outcome{st.Code(), text + fields}
}

// placedIn puts the id of the order that the scenario placed into a request.
func (r *runner) placedIn(req proto.Message) proto.Message {
	m := proto.Clone(req).ProtoReflect()
	if fd := m.Descriptor().Fields().ByName("order_id"); fd != nil && m.Get(fd).String() == "placed" {
		m.Set(fd, protoreflect.ValueOfString(r.placed))
	}
	return m.Interface()
}

// credential is the Authorization of `subject: scopes`.
func (r *runner) credential(t *testing.T, as string) string {
	t.Helper()
	switch as {
	case "":
		return ""
	case "!":
		other := gatewaytest.OtherKey(t)
		return "Bearer " + other
	}
	if token, ok := strings.CutPrefix(as, "token "); ok {
		return "Bearer " + token
	}
	subject, scopes, _ := strings.Cut(as, ":")
	return "Bearer " + r.g.Token(t, subject, scopes)
}

func render(t *testing.T, m proto.Message) string {
	t.Helper()
	if h, ok := m.(*httpbody.HttpBody); ok {
		return fmt.Sprintf("%s, %d bytes", h.GetContentType(), len(h.GetData()))
	}
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return compact(t, b)
}

func compact(t *testing.T, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return out.String()
}

var (
	volatile = regexp.MustCompile(`"(createTime|updateTime|etag|nextPageToken)":"[^"]+"`)
	idField  = regexp.MustCompile(`"(?:orderId|userId)":"([^"]+)"`)
)

// stable takes out what differs from run to run; generated ids become names.
func (r *runner) stable(text string) string {
	text = volatile.ReplaceAllString(text, `"$1":"*"`)
	for _, m := range idField.FindAllStringSubmatch(text, -1) {
		id := m[1]
		if slices.Contains([]string{"ada", "grace", "alan", "mary"}, id) || regexp.MustCompile(`^(ada|grace|alan)-\d{4}$`).MatchString(id) {
			continue
		}
		if r.ids[id] == "" {
			r.ids[id] = fmt.Sprintf("<id%d>", len(r.ids)+1)
		}
	}
	for id, name := range r.ids {
		text = strings.ReplaceAll(text, id, name)
	}
	return strings.TrimSpace(text)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Fatalf("%s line %d (go test ./gateway -run TestScenario -update writes it anew):\n got %s\nwant %s", name, i+1, g[i], w[i])
		}
	}
	t.Fatalf("%s has %d lines, got %d", name, len(w), len(g))
}
