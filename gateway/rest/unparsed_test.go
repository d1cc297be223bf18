package rest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

func bindingTo(t testing.TB, e *edge, rpc string) *Binding {
	t.Helper()
	for _, b := range e.rest.Routes() {
		if strings.HasSuffix(b.Method.FullName, "/"+rpc) {
			return b
		}
	}
	t.Fatal("no binding of " + rpc)
	return nil
}

// unreadable are bytes that are no message of the test service or the shop.
var unreadable = map[string]string{
	"no field":           "\xff\xff\xff",
	"cut short":          "\x0a\x7fhunter2",
	"no UTF-8":           "\x0a\x08hunter2\xff", // Field 1 is a string everywhere.
	"an end of no group": "\x0c",
	"field number 0":     "\x02\x00",
}

// TestUnreadableAnswer: an answer that is not what the descriptor says is 502,
// whole, and a line for the operator; in a stream it is the last line.
func TestUnreadableAnswer(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		for what, bytes := range unreadable {
			for _, rpc := range []string{"GetUser", "CreateUser", "GetUserOverview", "ListNames", "Down", "Up", "Chat"} {
				b.answers = []any{&wire.Frame{Data: []byte(bytes)}}
				got := e.do(t, bindingTo(t, e, rpc).ask())
				if got.status != http.StatusBadGateway || got.reason != httpedge.ReasonBadResponse || strings.Contains(got.body, "hunter2") || got.header.Get("Location") != "" {
					t.Errorf("%s, %s: %d %v %s", rpc, what, got.status, got.header, got.body)
				}
			}
			down := bindingTo(t, e, "Down")
			good, err := proto.Marshal(filled(t, down.Method.Descriptor.Output(), "v"))
			if err != nil {
				t.Fatal(err)
			}
			b.answers = []any{&wire.Frame{Data: good}, &wire.Frame{Data: []byte(bytes)}, &wire.Frame{Data: good}}
			lines := strings.Split(strings.TrimSuffix(e.do(t, down.ask()).body, "\n"), "\n")
			if len(lines) != 2 || !strings.HasPrefix(lines[0], `{"result":{`) || !strings.HasPrefix(lines[1], `{"error":{`) || !strings.Contains(lines[1], httpedge.ReasonBadResponse) {
				t.Errorf("stream, %s: %q", what, lines)
			}
		}
		if n := strings.Count(e.log.String(), "the answer cannot be read"); n != len(unreadable)*8 {
			t.Errorf("%d lines in the log", n)
		}
	})
}

// TestLocationOfOddAnswer: what policy would refuse to read in a request, the
// parser reads in an answer.
func TestLocationOfOddAnswer(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		create := bindingTo(t, e, "CreateUser")
		id := create.Method.Descriptor.Output().Fields().ByName("user_id").Number()
		tag := protowire.AppendTag(nil, id, protowire.BytesType)
		overlong := append(append([]byte{}, tag[0]|0x80, 0), protowire.AppendString(nil, "ada")...)
		b.answers = []any{&wire.Frame{Data: overlong}}
		if got := e.do(t, create.ask()); got.status != http.StatusCreated || got.header.Get("Location") != "/v1/users/ada" || !strings.Contains(got.body, `"userId":"ada"`) {
			t.Errorf("%d %v %s", got.status, got.header, got.body)
		}
	})
}

// TestScalarResponseBody: no service has one, so a binding is given one.
func TestScalarResponseBody(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		names := bindingTo(t, e, "ListNames")
		var err error
		if names.answer, err = names.Response.Field("hidden"); err != nil {
			t.Fatal(err)
		}
		for want, m := range map[string]*testv1.ListNamesResponse{
			`"a \"scalar\""`: {Names: []string{"n"}, Hidden: `a "scalar"`}, `""`: {Names: []string{"n"}},
		} {
			b.answers = []any{m}
			if got := e.do(t, names.ask()); got.status != 200 || got.body != want || got.header.Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("%d %v %s, want %s", got.status, got.header, got.body, want)
			}
		}
	})
}

// TestOptionsCallNobody: OPTIONS answers by itself on every route.
func TestOptionsCallNobody(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		b.answers = []any{&wire.Frame{Data: []byte("\xff")}}
		for _, bound := range e.rest.Routes() {
			r := bound.ask()
			r.Method, r.Body = http.MethodOptions, http.NoBody
			got := e.do(t, r)
			if got.status != http.StatusNoContent || got.body != "" || !strings.Contains(got.header.Get("Allow"), bound.Verb) || got.header.Get("Content-Length") != "" {
				t.Errorf("%s: %d %v", bound.Template, got.status, got.header)
			}
		}
	})
}

// TestHandlerThatAnswersUncalled: an empty message that no service sent is no
// answer.
func TestHandlerThatAnswersUncalled(t *testing.T) {
	e := newEdge(t, nil)
	x := asking(bindingTo(t, e, "Echo"), httptest.NewRequest("GET", "/", nil))
	x.server = e.rest
	if v, err := rewrite(x.carry(t.Context()), &testv1.EchoResponse{}); err == nil {
		t.Errorf("it was taken: %v", v)
	}
}

// countingPool spoils what it is given back, and counts it.
type countingPool struct {
	mu       sync.Mutex
	out, put int
}

func (p *countingPool) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

func (p *countingPool) Put(b *[]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put++
	for i := range *b {
		(*b)[i] = 0xff
	}
}

// receive puts data into an answer as grpc-go does: in memory of the pool.
func (p *countingPool) receive(into *wire.Frame, data []byte) error {
	p.mu.Lock()
	p.out++
	p.mu.Unlock()
	b := append(make([]byte, 0, 4096), data...) // grpc-go keeps small ones out of pools.
	buf := mem.NewBuffer(&b, p)
	defer buf.Free()
	return wire.Codec{}.Unmarshal(mem.BufferSlice{buf}, into)
}

// poolConn answers every call with the same bytes, in memory of a pool.
type poolConn struct {
	pool countingPool
	data []byte
	err  error // beside the bytes
	left int   // messages of a stream
}

func (c *poolConn) Call(_ context.Context, _ *policy.Call, _ *wire.Frame, a *upstream.Answer) error {
	if err := c.pool.receive(&a.Message, c.data); err != nil {
		return err
	}
	return c.err
}

func (c *poolConn) Stream(ctx context.Context, _ *policy.Call) (upstream.Stream, error) {
	return &poolStream{fakeStream{ctx: ctx}, c}, nil
}

type poolStream struct {
	fakeStream
	c *poolConn
}

func (s *poolStream) Receive(m *wire.Frame) error {
	if s.c.left == 0 {
		return io.EOF
	}
	s.c.left--
	return s.c.pool.receive(m, s.c.data)
}

// brokenWriter cannot be written to.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestAnswersAreFreedOnce: after an answer, a failure, a stream and a caller who
// went away, and never before the bytes have been read.
func TestAnswersAreFreedOnce(t *testing.T) {
	id := strings.Repeat("i", 2000) // As large as pools take.
	good, err := proto.Marshal(&testv1.EchoResponse{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	bad := append(append([]byte{}, good...), 0xff)
	for name, tc := range map[string]struct {
		method, path, body string
		data               []byte
		err                error
		broken             bool
		frames, ids        int
	}{
		"whole":              {method: "GET", path: echoPath, data: good, frames: 1, ids: 1},
		"HEAD":               {method: "HEAD", path: echoPath, data: good, frames: 1, ids: 1},
		"unreadable":         {method: "GET", path: echoPath, data: bad, frames: 1},
		"an error beside it": {method: "GET", path: echoPath, data: good, err: context.Canceled, frames: 1},
		"nobody to read it":  {method: "GET", path: echoPath, data: good, frames: 1, broken: true},
		"a stream":           {method: "GET", path: "/test/v1/down", data: good, frames: 3, ids: 3},
		"a bad stream":       {method: "GET", path: "/test/v1/down", data: bad, frames: 1},
		"a lost stream":      {method: "GET", path: "/test/v1/down", data: good, frames: 1, broken: true},
		"up":                 {method: "POST", path: "/test/v1/up", body: "{}", data: good, frames: 1, ids: 1},
		"chat":               {method: "POST", path: "/test/v1/chat", body: "{}", data: good, frames: 3, ids: 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := &poolConn{data: tc.data, err: tc.err, left: 3}
			if tc.path == "/test/v1/up" {
				c.left = 1
			}
			e := newEdge(t, func(o *edgeOptions) { o.Conn = c })
			w := httptest.NewRecorder()
			var to http.ResponseWriter = w
			if tc.broken {
				to = brokenWriter{w}
			}
			e.ServeHTTP(to, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
			if c.pool.out != tc.frames || c.pool.put != tc.frames {
				t.Errorf("%d frames, %d given back, want %d", c.pool.out, c.pool.put, tc.frames)
			}
			if n := strings.Count(w.Body.String(), id); n != tc.ids {
				t.Errorf("%d answers, want %d: %d %.200s", n, tc.ids, w.Code, w.Body)
			}
		})
	}
}

// TestBodies: what reaches the service is what protojson reads of a body that
// has every field, as a whole message and as one field of it.
func TestBodies(t *testing.T) {
	kinds := filled(t, (&testv1.Kinds{}).ProtoReflect().Descriptor(), "v").(*testv1.Kinds)
	whole := &testv1.EchoRequest{Id: "e1", Kinds: kinds, Padding: 3, Inner: &testv1.Inner{Owner: "o", Tags: []string{"a", "b"}}}
	for verb, tc := range map[string]struct {
		path string
		body proto.Message
		want proto.Message
	}{
		"POST": {echoPath, whole, whole},
		"PUT":  {echoPath + ":kinds", kinds, &testv1.EchoRequest{Id: "e1", Kinds: kinds}},
	} {
		e := newEdge(t, nil)
		if got := e.do(t, httptest.NewRequest(verb, tc.path, strings.NewReader(asJSON(t, tc.body, nil)))); got.status != 200 {
			t.Fatalf("%s: %d %s", verb, got.status, got.body)
		}
		if got := e.conn.requests[0]; !proto.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", verb, got, tc.want)
		}
	}
}

// TestPatchNamesItsFields: the mask of a PATCH is made of the body's keys.
func TestPatchNamesItsFields(t *testing.T) {
	seen := make(chan *userv1.UpdateUserRequest, 1)
	places(t, func(t *testing.T, e *edge, b *backend) {
		b.answers = []any{&userv1.User{UserId: "ada", Email: "a@b.example"}}
		patch := bindingTo(t, e, "UpdateUser")
		b.requests = func(data []byte) {
			m := &userv1.UpdateUserRequest{}
			if err := proto.Unmarshal(data, m); err != nil {
				t.Error(err)
			}
			seen <- m
		}
		r := patch.ask()
		r.Body = io.NopCloser(strings.NewReader(`{"displayName":"Ada","email":""}`))
		r.ContentLength = -1
		if got := e.do(t, r); got.status != 200 || !strings.Contains(got.body, "a@b.example") {
			t.Fatalf("%d %s", got.status, got.body)
		}
		m := <-seen
		paths := m.GetUpdateMask().GetPaths()
		if len(paths) != 2 || !strings.Contains(strings.Join(paths, " "), "display_name") || !strings.Contains(strings.Join(paths, " "), "email") || m.GetUser().GetDisplayName() != "Ada" {
			t.Errorf("%v", m)
		}
	})
}

// TestBadBodiesSayWhere: the field, and the position in the body.
func TestBadBodiesSayWhere(t *testing.T) {
	for name, tc := range map[string]struct{ verb, path, body, field, reason string }{
		"a wrong value":      {"POST", echoPath, "{\n  \"kinds\": {\n    \"fInt32\": \"x\"}}", "kinds.f_int32", ", at line 3, column "},
		"in a list":          {"POST", echoPath, `{"kinds":{"rInt32":[1,"x"]}}`, "kinds.r_int32[1]", ", at line 1, column 2"},
		"an unknown field":   {"POST", echoPath, "{\n\"nope\":1}", "nope", "unknown field, at line 2, column "},
		"of a body field":    {"PUT", echoPath + ":kinds", `{"fBool":3}`, "kinds.f_bool", ", at line 1, column "},
		"a body field's own": {"PUT", echoPath + ":kinds", `[]`, "kinds", "must be an object, at line 1, column 1"},
		"not the message":    {"POST", echoPath, ` []`, "body", "must be an object, at line 1, column 2"},
		"a field twice":      {"POST", echoPath, `{"failCode":0,"fail_code":0}`, "body", "gives a field twice, or fields that exclude each other: fail_code, at line 1, column "},
		"two of a oneof":     {"POST", echoPath, `{"kinds":{"cString":"a","cInt64":1}}`, "body", "exclude each other: kinds.c_int64, at line 1, column "},
		"no JSON":            {"POST", echoPath, "{\n \"id\": ]", "body", "line 2, column 8"},
		"in a stream":        {"POST", "/test/v1/up", `{"id":"a"}` + "{\n\"nope\":1}", "body", ": nope, at line 2, column "},
	} {
		t.Run(name, func(t *testing.T) {
			got := newEdge(t, nil).do(t, httptest.NewRequest(tc.verb, tc.path, strings.NewReader(tc.body)))
			if got.status != 400 || !strings.Contains(got.body, `"field":"`+tc.field+`"`) || !strings.Contains(got.body, tc.reason) || strings.Contains(got.body, "proto") {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

// keeper is a connection that fails, and goes on to send what it was given: as
// HTTP/2 may, when its stream is reset.
type keeper struct {
	*httptest.ResponseRecorder
	kept []byte
}

func (k *keeper) Write(p []byte) (int, error) {
	k.kept = p
	return 0, io.ErrClosedPipe
}

// TestMemoryOfFailedAnswers: it is nobody else's, as long as it may be sent.
func TestMemoryOfFailedAnswers(t *testing.T) {
	e := newEdge(t, nil)
	for range 10 { // A pool may drop what it is given.
		k := &keeper{ResponseRecorder: httptest.NewRecorder()}
		e.ServeHTTP(k, httptest.NewRequest("GET", "/test/v1/echo/mine", nil))
		if got := e.do(t, httptest.NewRequest("GET", "/test/v1/echo/another", nil)); !strings.Contains(got.body, `"id":"another"`) {
			t.Fatal(got.body)
		}
		if !strings.Contains(string(k.kept), `"id":"mine"`) {
			t.Fatalf("%s", k.kept)
		}
	}
}
