package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/metadata"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// apiKey runs `sluice apikey create` and returns the key and what is to store.
func apiKey(t *testing.T, args ...string) (key string, stored object) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs, "sluice"), append([]string{"apikey", "create"}, args...)...).Output()
	if err != nil {
		t.Fatalf("sluice apikey create: %v", err)
	}
	key, rest, _ := strings.Cut(string(out), "\n")
	var file struct{ Keys []object }
	if err := yaml.Unmarshal([]byte(rest), &file); err != nil || len(file.Keys) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return key, file.Keys[0]
}

// forger makes tokens as nobody's library would.
type forger struct {
	t *testing.T
	*target
}

// claims are those of a good token for ada, with changes; nil takes one out.
func (f forger) claims(change ...any) jwt.MapClaims {
	now := time.Now()
	c := jwt.MapClaims{"iss": issuerName, "aud": audience, "sub": "ada", "scope": all, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == nil {
			delete(c, change[i].(string))
		} else {
			c[change[i].(string)] = change[i+1]
		}
	}
	return c
}

// sign makes a token of the login service, with further header members.
func (f forger) sign(c jwt.MapClaims, header ...any) string {
	f.t.Helper()
	return f.signBy(jwt.SigningMethodEdDSA, f.login.key, c, header...)
}

func (f forger) signBy(m jwt.SigningMethod, key any, c jwt.MapClaims, header ...any) string {
	f.t.Helper()
	token := jwt.NewWithClaims(m, c)
	for i := 0; i+1 < len(header); i += 2 {
		token.Header[header[i].(string)] = header[i+1]
	}
	s, err := token.SignedString(key)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// raw signs texts as they stand.
func (f forger) raw(header, claims string) string {
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	return text + "." + b64(ed25519.Sign(f.login.key, []byte(text)))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (f forger) json(v any) string {
	f.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

// credentialRow is an attack: header fields as name, value, …, a query that only
// REST has, and the reason of the refusal. `anonymous` is a refusal for want of
// any credential, empty a success.
type credentialRow struct {
	name   string
	fields []string
	query  string
	reason string
}

const anonymous, malformed, invalid, conflict = "anonymous", "CREDENTIAL_MALFORMED", "TOKEN_INVALID", "CREDENTIALS_CONFLICT"

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// TestAttackCredentials: whatever stands for a credential, both edges of the
// process see the same in it, and none that was forged lets anyone in.
func TestAttackCredentials(t *testing.T) {
	t.Parallel()
	adas, storedAda := apiKey(t, "--owner", "ada", "--scope", all, "--id", "ada-1")
	graces, storedGrace := apiKey(t, "--owner", "grace", "--scope", all, "--id", "grace-1")
	old, storedOld := apiKey(t, "--owner", "ada", "--scope", all, "--id", "ada-old")
	storedOld["expires"] = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	tg := startTarget(t, nil, object{"api_keys": object{"keys": []object{storedAda, storedGrace, storedOld}}})
	tg.measure(t)
	f := forger{t, tg}
	rows := append(forgedTokens(f), credentialHeaders(tg)...)
	rows = append(rows, []credentialRow{
		{"API key", []string{"X-API-Key", adas}, "", ""},
		{"API key, unknown", []string{"X-API-Key", strings.Replace(adas, "ada-1", "ada-9", 1)}, "", "API_KEY_INVALID"},
		{"API key, right id, wrong secret", []string{"X-API-Key", adas[:len(adas)-1] + other(adas[len(adas)-1])}, "", "API_KEY_INVALID"},
		{"API key, id of one, secret of another", []string{"X-API-Key", "sluice_ada-1_" + graces[strings.LastIndexByte(graces, '_')+1:]}, "", "API_KEY_INVALID"},
		{"API key, garbled", []string{"X-API-Key", "sluice__" + strings.Repeat("%", 40)}, "", "API_KEY_INVALID"},
		{"API key, empty", []string{"X-API-Key", ""}, "", "API_KEY_INVALID"},
		{"API key, its hash", []string{"X-API-Key", storedAda["hash"].(string)}, "", "API_KEY_INVALID"},
		{"API key, long", []string{"X-API-Key", adas + strings.Repeat("x", 4000)}, "", "API_KEY_INVALID"},
		{"API key, expired", []string{"X-API-Key", old}, "", "API_KEY_EXPIRED"},
		{"API key, of another", []string{"X-API-Key", graces}, "", "NOT_OWNER"},
		{"two API keys", []string{"X-API-Key", adas, "X-API-Key", adas}, "", "API_KEY_INVALID"},
		{"two API keys in one line", []string{"X-API-Key", adas + ", " + graces}, "", "API_KEY_INVALID"},
		{"API key as a token", bearer(adas), "", malformed},
		{"API key in the query", nil, "api_key=" + adas, anonymous},
		{"API key in the query, as the header", nil, "X-API-Key=" + adas, anonymous},
		{"API key of one, token of another", append(bearer(tg.grace), "X-API-Key", adas), "", conflict},
		{"token of one, API key of another", append(bearer(tg.ada), "X-API-Key", graces), "", conflict},
		{"API key and token of one", append(bearer(tg.ada), "X-API-Key", adas), "", ""},
		{"API key that is bad beside a good token", append(bearer(tg.ada), "X-API-Key", "x"), "", "API_KEY_INVALID"},
		{"token that is bad beside a good API key", append(bearer("x"), "X-API-Key", adas), "", malformed},
	}...)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { row.run(t, tg) })
	}
	tg.serves(t)
	tg.bounded(t)
	if log := tg.stderr.String(); strings.Contains(log, adas) || strings.Contains(log, tg.ada) || strings.Contains(log, tg.ada[:60]) {
		t.Error("the log holds a credential")
	}
}

// other is another digit than this one.
func other(b byte) string {
	if b == '0' {
		return "1"
	}
	return "0"
}

func (row credentialRow) run(t *testing.T, tg *target) {
	want := verdict{status: 401, code: "UNAUTHENTICATED", reason: row.reason}
	switch row.reason {
	case "":
		want = verdict{status: 200}
	case anonymous:
		want.reason = ""
	case "NOT_OWNER":
		want.status, want.code = 403, "PERMISSION_DENIED"
	}
	path := "/v1/users/ada"
	if row.query != "" {
		path += "?" + row.query
	}
	got := ask(t, tg.addr, path, row.fields)
	if got.status != want.status || got.code != want.code || got.reason != want.reason {
		t.Errorf("over REST: %v; want %v", got, want)
	}
	if strings.Contains(got.body, "ada@example.com") != (row.reason == "") {
		t.Errorf("over REST: %v", got)
	}
	if challenge := got.header.Get("WWW-Authenticate"); (got.status == 401) != strings.HasPrefix(challenge, "Bearer ") {
		t.Errorf("WWW-Authenticate: %q with %d", challenge, got.status)
	}
	if row.query != "" {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := userv1.NewUserServiceClient(tg.conn).GetUser(metadata.AppendToOutgoingContext(ctx, row.fields...), &userv1.GetUserRequest{UserId: "ada"})
	if code, reason := verdictOf(err); code != want.code || reason != want.reason {
		t.Errorf("over gRPC: %v; want %s %s", err, want.code, want.reason)
	}
}

// ask sends one GET with the fields as they are.
func ask(t *testing.T, addr, target string, fields []string) verdict {
	t.Helper()
	got := exchange(t, addr, "GET "+target+" HTTP/1.1\r\nHost: gateway.test\r\n"+lines(fields)+"\r\n", 1)
	if len(got) != 1 {
		t.Fatalf("no answer to %s", target)
	}
	return got[0]
}

// lines are header fields as they are sent.
func lines(fields []string) string {
	var b strings.Builder
	for i := 0; i+1 < len(fields); i += 2 {
		b.WriteString(fields[i] + ": " + fields[i+1] + "\r\n")
	}
	return b.String()
}

// credentialHeaders are good tokens in the wrong place.
func credentialHeaders(tg *target) []credentialRow {
	basic := base64.StdEncoding.EncodeToString([]byte("ada:secret"))
	return []credentialRow{
		{"a good token", bearer(tg.ada), "", ""},
		{"nothing", nil, "", anonymous},
		{"a good token of another", bearer(tg.grace), "", "NOT_OWNER"},
		{"bearer in lower case", []string{"authorization", "bearer " + tg.ada}, "", ""},
		{"BEARER in upper case", []string{"authorization", "BEARER " + tg.ada}, "", ""},
		{"two Authorization headers", append(bearer(tg.ada), bearer(tg.grace)...), "", malformed},
		{"two that are one", append(bearer(tg.ada), bearer(tg.ada)...), "", malformed},
		{"two tokens in one", bearer(tg.ada + ", Bearer " + tg.grace), "", malformed},
		{"Basic", []string{"Authorization", "Basic " + basic}, "", malformed},
		{"a token without a scheme", []string{"Authorization", tg.ada}, "", malformed},
		{"a token of another scheme", []string{"Authorization", "DPoP " + tg.ada}, "", malformed},
		{"an empty header", []string{"Authorization", ""}, "", malformed},
		{"Bearer and nothing", []string{"Authorization", "Bearer "}, "", malformed},
		{"a token in Proxy-Authorization", []string{"Proxy-Authorization", "Bearer " + tg.ada}, "", anonymous},
		{"a token in a cookie", []string{"Cookie", "access_token=" + tg.ada + "; Authorization=Bearer%20" + tg.ada}, "", anonymous},
		{"a token as Grpc-Metadata", []string{"Grpc-Metadata-Authorization", "Bearer " + tg.ada}, "", anonymous},
		{"a token in the query", nil, "access_token=" + tg.ada, anonymous},
		{"a token in the query, as the header", nil, "Authorization=" + url.QueryEscape("Bearer "+tg.ada), anonymous},
	}
}

// forgedTokens are tokens that are no good, or only nearly.
func forgedTokens(f forger) []credentialRow {
	f.t.Helper()
	pem, err := os.ReadFile(f.login.file)
	if err != nil {
		f.t.Fatal(err)
	}
	public := f.login.key.Public().(ed25519.PublicKey)
	_, mine, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	good, now := f.claims(), time.Now()
	payload := f.json(good)
	jwk := object{"kty": "OKP", "crv": "Ed25519", "x": b64(mine.Public().(ed25519.PublicKey))}
	parts := strings.Split(f.sign(good), ".")
	row := func(name, token, reason string) credentialRow {
		return credentialRow{name: name, fields: bearer(token), reason: reason}
	}
	return []credentialRow{
		row("alg none", f.signBy(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), invalid),
		row("alg None", b64([]byte(`{"alg":"None","typ":"JWT"}`))+"."+b64([]byte(payload))+".", invalid),
		row("alg nOnE with a signature", f.raw(`{"alg":"nOnE"}`, payload), invalid),
		row("alg empty", f.raw(`{"alg":""}`, payload), invalid),
		row("alg missing", f.raw(`{"typ":"JWT"}`, payload), invalid),
		row("alg a list", f.raw(`{"alg":["EdDSA"]}`, payload), invalid),
		row("two algs", f.raw(`{"alg":"none","alg":"EdDSA"}`, payload), malformed),
		row("HS256 with the public key's PEM", f.signBy(jwt.SigningMethodHS256, pem, good), invalid),
		row("HS256 with the public key's bytes", f.signBy(jwt.SigningMethodHS256, []byte(public), good), invalid),
		row("HS256 with an empty secret", f.signBy(jwt.SigningMethodHS256, []byte{}, good), invalid),
		row("ES256 of a key of mine", f.signBy(jwt.SigningMethodES256, ec, good), invalid),
		row("EdDSA of a key of mine", f.signBy(jwt.SigningMethodEdDSA, mine, good), invalid),
		row("jwk in the header", f.signBy(jwt.SigningMethodEdDSA, mine, good, "jwk", jwk), invalid),
		row("jku in the header", f.signBy(jwt.SigningMethodEdDSA, mine, good, "jku", "http://127.0.0.1:1/keys"), invalid),
		row("x5u in the header", f.signBy(jwt.SigningMethodEdDSA, mine, good, "x5u", "http://127.0.0.1:1/cert"), invalid),
		row("kid that is a path", f.signBy(jwt.SigningMethodEdDSA, mine, good, "kid", "../../../../dev/null"), invalid),
		row("kid that is SQL", f.signBy(jwt.SigningMethodEdDSA, mine, good, "kid", "x' UNION SELECT 'k"), invalid),
		row("kid that is no text", f.sign(good, "kid", 7), malformed),
		row("crit", f.sign(good, "crit", []string{"exp"}), invalid),
		row("crit that is empty", f.sign(good, "crit", []string{}), invalid),
		row("b64 false", f.sign(good, "b64", false, "crit", []string{"b64"}), invalid),
		row("typ of a logout token", f.sign(good, "typ", "logout+jwt"), invalid),
		row("expired", f.sign(f.claims("exp", now.Add(-5*time.Minute).Unix())), "TOKEN_EXPIRED"),
		row("no exp", f.sign(f.claims("exp", nil)), invalid),
		row("exp a text", f.sign(f.claims("exp", "never")), invalid),
		row("exp far beyond int64", f.raw(`{"alg":"EdDSA"}`, `{"iss":"`+issuerName+`","aud":"shop","sub":"ada","exp":1e300}`), invalid),
		row("nbf in the future", f.sign(f.claims("nbf", now.Add(5*time.Minute).Unix())), invalid),
		row("iat in the future", f.sign(f.claims("iat", now.Add(5*time.Minute).Unix())), invalid),
		row("another audience", f.sign(f.claims("aud", "bank")), invalid),
		row("no audience", f.sign(f.claims("aud", nil)), invalid),
		row("audiences without ours", f.sign(f.claims("aud", []string{"bank", "shop2"})), invalid),
		row("another issuer", f.sign(f.claims("iss", "https://evil.test/")), invalid),
		row("an issuer that is nearly ours", f.sign(f.claims("iss", strings.TrimSuffix(issuerName, "/"))), invalid),
		row("no issuer", f.sign(f.claims("iss", nil)), invalid),
		row("the partner's issuer with our key", f.sign(f.claims("iss", partnerName, "aud", partnerAudience)), invalid),
		row("our issuer with the partner's key", f.signBy(jwt.SigningMethodEdDSA, f.partner.key, good), invalid),
		row("the partner's token for our audience", f.signBy(jwt.SigningMethodEdDSA, f.partner.key, f.claims("iss", partnerName)), invalid),
		row("no subject", f.sign(f.claims("sub", nil)), invalid),
		row("an empty subject", f.sign(f.claims("sub", "")), invalid),
		row("a subject with a line end", f.sign(f.claims("sub", "ada\n{\"x\":1}")), invalid),
		row("two subjects", f.raw(`{"alg":"EdDSA"}`, payload[:len(payload)-1]+`,"sub":"grace"}`), invalid),
		row("two scopes", f.raw(`{"alg":"EdDSA"}`, payload[:len(payload)-1]+`,"scope":"admin"}`), invalid),
		row("claims that are a list", f.raw(`{"alg":"EdDSA"}`, `[`+payload+`]`), invalid),
		row("too long", f.sign(f.claims("x", strings.Repeat("x", 9000))), malformed),
		row("no signature", parts[0]+"."+parts[1]+".", invalid),
		row("a changed payload", parts[0]+"."+b64([]byte(strings.Replace(payload, all, "admin", 1)))+"."+parts[2], invalid),
		row("padding", parts[0]+"."+parts[1]+"."+parts[2]+"==", malformed),
		row("four parts", strings.Join(parts, ".")+".x", malformed),
		row("five parts, as if encrypted", "a.b.c.d.e", malformed),
		row("JSON serialization", `{"payload":"`+parts[1]+`"}`, malformed),
		row("no token", "AAAA", malformed),
	}
}
