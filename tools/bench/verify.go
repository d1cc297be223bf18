package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// verify makes sure that all do the same work: the same whole answer, though one
// writes null where the other leaves a member out, and the floor writes no JSON
// at all.
func verify(ctx context.Context, w *work, gateways ...*process) error {
	var first any
	for i, g := range gateways {
		answer, err := fetch(ctx, g, w)
		if err != nil {
			return fmt.Errorf("%s: %v: %w", g.name, w, errors.Join(err, g.dead()))
		}
		if i == 0 {
			first = answer
		} else if !reflect.DeepEqual(first, answer) {
			return fmt.Errorf("%v: %s and %s answer differently:\n%v\n%v", w, gateways[0].name, g.name, first, answer)
		}
	}
	return nil
}

// fetch is the answer to a work as a JSON value, known to be whole.
func fetch(ctx context.Context, g *process, w *work) (any, error) {
	body, err := fetchBody(ctx, g, w)
	if err != nil {
		return nil, err
	}
	m := w.answer.ProtoReflect().New().Interface()
	isJSON := w.rpc == "" && g.program != "floor"
	if isJSON {
		err = protojson.Unmarshal(body, m)
	} else if err = proto.Unmarshal(body, m); err == nil {
		body, err = protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	}
	if err != nil {
		return nil, err
	}
	if !w.whole(m) {
		return nil, fmt.Errorf("not the whole answer: %s", body)
	}
	var answer any
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	withoutNulls(answer)
	return answer, nil
}

func fetchBody(ctx context.Context, g *process, w *work) ([]byte, error) {
	if w.rpc != "" {
		conn, err := grpc.NewClient(g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		defer conn.Close() //nolint:errcheck // its one call is over
		answer := w.answer.ProtoReflect().New().Interface()
		if err := conn.Invoke(ctx, w.rpc, w.request, answer); err != nil {
			return nil, err
		}
		return proto.Marshal(answer)
	}
	plan, err := w.planFor(g)
	if err != nil {
		return nil, err
	}
	resp, err := do(ctx, http.DefaultClient, w.method, "http://"+g.addr+w.target, g.token, plan.contentType, plan.body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != plan.status {
		return nil, fmt.Errorf("answered %s, want %d: %.1024s", resp.Status, plan.status, body)
	}
	return body, nil
}

// withoutNulls removes the members that say nothing.
func withoutNulls(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member == nil {
				delete(v, name)
			}
			withoutNulls(member)
		}
	case []any:
		for _, element := range v {
			withoutNulls(element)
		}
	}
}

// verifyChain makes sure that Sluice is measured with its whole chain on: what
// it refuses, counts and says. Spans and log lines are looked at afterwards, for
// one in a hundred requests is traced.
func verifyChain(ctx context.Context, g *process, log bool) error {
	for _, c := range []struct {
		what, target, token string
		want                int
	}{
		{"a caller without a token", "/v1/users/ada", "", http.StatusUnauthorized},
		{"a token with a broken signature", "/v1/users/ada", g.token + "x", http.StatusUnauthorized},
		{"a token without the scope", "/v1/users", g.token, http.StatusForbidden},
		{"another user's data", "/v1/users/grace", g.token, http.StatusForbidden},
		{"its own data", "/v1/users/ada", g.token, http.StatusOK},
	} {
		resp, err := do(ctx, http.DefaultClient, http.MethodGet, "http://"+g.addr+c.target, c.token, "", nil)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != c.want {
			return fmt.Errorf("the chain is not whole: %s: answered %s, want %d", c.what, resp.Status, c.want)
		}
		if c.want == http.StatusOK && (resp.Header.Get("RateLimit") == "" || resp.Header.Get("X-Request-Id") == "") {
			return fmt.Errorf("the chain is not whole: no RateLimit or X-Request-Id in %v", resp.Header)
		}
	}
	metrics, err := get(ctx, "http://"+g.admin+"/metrics", "")
	if err != nil {
		return err
	}
	for _, name := range []string{"sluice_requests_total{", "sluice_limit_decisions_total{", "sluice_denied_total{", "sluice_upstream_requests_total{"} {
		if !bytes.Contains(metrics, []byte(name)) {
			return fmt.Errorf("the chain is not whole: no metric %s}", name)
		}
	}
	for range 50 { // Lines may lie in a buffer for a moment.
		if !log || g.logged() > 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the chain is not whole: %s logs nothing", g.name)
}
