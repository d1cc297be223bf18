package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

func loaded(t testing.TB, yaml string) *configv1.Config {
	t.Helper()
	c, err := load(&file{path: "sluice.yaml", data: []byte(yaml)}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lines are changes as one reads them.
func lines(all []Change) (out []string) {
	for _, c := range all {
		s := c.Key + " " + c.From + " -> " + c.To
		if c.Secret {
			s += " secret"
		}
		if c.NeedsRestart {
			s += " restart"
		}
		out = append(out, s)
	}
	return out
}

func TestDiff(t *testing.T) {
	const before = `
http: {addr: ":8080", max_headers: 50}
databases: {user: {dsn: "postgres://u:hunter2@h/x"}}
limits: {classes: {read: {rates: [{per: principal, requests: 5}]}}}
auth: {issuers: [{issuer: "https://a", audiences: [x], jwks_url: "https://a/k"}]}
`
	for _, test := range []struct {
		name, after string
		want        []string
	}{
		{"nothing", before, nil},
		{"a listener and a limit", strings.NewReplacer(":8080", ":8081", "requests: 5", "requests: 6").Replace(before), []string{
			`http.addr ":8080" -> ":8081" restart`,
			`limits.classes[read].rates[0].burst 5 -> 6`,
			`limits.classes[read].rates[0].requests 5 -> 6`,
		}},
		{"a password alone", strings.Replace(before, "hunter2", "hunter3", 1), []string{
			`databases[user].dsn "postgres://***@h/x" -> "postgres://***@h/x" secret restart`,
		}},
		{"an issuer before another", strings.Replace(before, "issuers: [", `issuers: [{issuer: "https://b", audiences: [y], jwks_url: "https://b/k", leeway: 1s, keys_max_age: 60s, algorithms: [ES256]}, `, 1), []string{
			`auth.issuers[https://b].algorithms[0]  -> "ES256"`,
			`auth.issuers[https://b].audiences[0]  -> "y"`,
			`auth.issuers[https://b].issuer  -> "https://b"`,
			`auth.issuers[https://b].jwks_url  -> "https://b/k"`,
			`auth.issuers[https://b].keys_max_age  -> 1m0s`,
			`auth.issuers[https://b].leeway  -> 1s`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := lines(Diff(loaded(t, before), loaded(t, test.after)))
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
	running, err := DiffRunning(Redacted(loaded(t, before)), loaded(t, strings.Replace(before, "max_headers: 50", "max_headers: 60", 1)))
	if got := lines(running); err != nil || !slices.Equal(got, []string{"http.max_headers 50 -> 60"}) {
		t.Errorf("to a running one: %q, %v", got, err)
	}
}

// TestSecretsAreNotShown: not by digests, which are guessed with, not by the
// configuration as operators read it, not by differences.
func TestSecretsAreNotShown(t *testing.T) {
	with := func(secret string) *configv1.Config {
		return loaded(t, fmt.Sprintf(`
databases: {user: {dsn: "postgres://u:%[1]s@h/x?sslmode=disable"}, order: {dsn: "postgres://h/x?password=%[1]s"}}
limits: {redis: {url: "redis://:%[1]s@h:6379"}}
methods: {a.B/C: {request_headers: {set: {Authorization: "%[1]s", X-Api-Key: "%[1]s", X-Note: "Bearer %[1]s"}}}}
`, secret))
	}
	a, b := with("hunter2"), with("hunter3-longer")
	if Digest(a) != Digest(b) {
		t.Error("the digest tells secrets apart")
	}
	if proto.Equal(a, b) {
		t.Error("they are equal")
	}
	shown := string(Redacted(a)) + fmt.Sprint(lines(Diff(a, b)))
	if strings.Contains(shown, "hunter") {
		t.Error(shown)
	}
	if n := len(Diff(a, b)); n != 6 {
		t.Errorf("%d differences: %q", n, lines(Diff(a, b)))
	}
	if Digest(a) == Digest(loaded(t, "")) {
		t.Error("all digests are the same")
	}
}

// TestKeep: what needs a restart stays, all else is the next one's.
func TestKeep(t *testing.T) {
	first := loaded(t, "data_dir: one\ngrpc: {max_concurrent_streams: 7}\n")
	next := loaded(t, "data_dir: two\nhttp: {tls: {cert_file: c, key_file: k}, max_headers: 9}\n")
	got, keys := Keep(first, next)
	if want := []string{"data_dir", "databases", "grpc.max_concurrent_streams", "http.tls"}; !slices.Equal(keys, want) {
		t.Errorf("%q", keys)
	}
	want := proto.CloneOf(first)
	want.Http.MaxHeaders = 9
	if !proto.Equal(got, want) {
		t.Errorf("%v", lines(Diff(want, got)))
	}
	if next.GetDataDir() != "two" {
		t.Error("the next one was changed")
	}
	for _, key := range restart { // Each is a key that there is.
		if !keep(first.ProtoReflect(), first.ProtoReflect(), strings.Split(key, ".")) {
			continue
		}
		t.Errorf("%s differs from itself", key)
	}
}

// TestValuesOfRulesAreSecrets: a header or cookie that opens a route, a canary or a
// fault is as good as a password, and what a rule sets in a request or answer often is
// one, under whatever name. Names of headers, cookies and fields are shown.
func TestValuesOfRulesAreSecrets(t *testing.T) {
	with := func(secret string) *configv1.Config {
		return loaded(t, strings.ReplaceAll(`
http_upstreams: {up: {endpoints: [{address: "127.0.0.1:1"}], canaries: [{name: next, target: "127.0.0.1:2", match: [{cookie: next, value: "SECRET"}, {header: X-Note, value: SECRET}]}]}}
http_routes:
  - name: r
    upstream: up
    require: {public: true}
    match: {prefix: /r, headers: [{name: X-Internal-Token, value: SECRET}, {name: X-Note, value: SECRET}]}
    request_headers: {set: {X-Functions-Key: SECRET}, add: {X-Plain: "a SECRET"}, remove: [X-Gone]}
    response_headers: {set: {X-Of-Answer: SECRET}, add: {X-More: SECRET}}
    request_json: {set: {auth.clientSecret: '"SECRET"', note: '"SECRET"'}, rename: {old: new}}
    response_json: {set: {answer: '"SECRET"'}, remove: [gone]}
methods: {shop.user.v1.UserService/GetUser: {request_headers: {set: {x-key: SECRET}}, response_headers: {add: {x-other: SECRET}}}}
resilience: {faults: [{delay: 1s, percent: 1, header: X-Fault, value: SECRET}]}
`, "SECRET", secret))
	}
	a, b := with("hunter2"), with("hunter3-longer")
	shown := string(Redacted(a))
	for _, name := range []string{"X-Functions-Key", "X-Plain", "X-Gone", "auth.clientSecret", "note", "X-Note", "next", "x-key", "X-Fault", `"old":"new"`} {
		if !strings.Contains(shown, name) {
			t.Errorf("%s is not shown", name)
		}
	}
	changes := Diff(a, b)
	if shown += fmt.Sprint(lines(changes)); strings.Contains(shown, "hunter") {
		t.Error(shown)
	}
	if len(changes) < 14 {
		t.Errorf("%d changes: %v", len(changes), lines(changes))
	}
	for _, c := range changes {
		if !c.Secret {
			t.Errorf("%s is shown", c.Key)
		}
	}
}
