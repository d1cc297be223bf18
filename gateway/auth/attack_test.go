package auth_test

import (
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// attack is one on every party, or on those that only names. The token is
// refused for the reason, or, where reason is empty, does no harm: it stands
// for ada, as the issuer's signature says.
type attack struct {
	name, only string
	token      func(p party) string
	reason     string
}

const expired, invalid, malformed, harmless = "TOKEN_EXPIRED", "TOKEN_INVALID", "CREDENTIAL_MALFORMED", ""

func headers(more string, reason string) func(string) attack {
	return func(name string) attack {
		return attack{name, "", func(p party) string { return p.sign(p.head(more), p.body(ada)) }, reason}
	}
}

func bodies(more string, reason string) func(string) attack {
	return func(name string) attack {
		return attack{name, "", func(p party) string { return p.sign(p.head(""), p.body(more)) }, reason}
	}
}

func changed(reason string, changes ...any) func(string) attack {
	return func(name string) attack {
		return attack{name, "", func(p party) string { return p.sign(p.head(""), p.claims(changes...)) }, reason}
	}
}

func attacks() []attack {
	return slices.Concat(attacksOnAlg(), attacksOnKeys(), attacksOnSignatures(), attacksOnHeaders(), attacksOnClaims(), attacksOnTimes(), attacksOnSpelling())
}

func attacksOnAlg() []attack {
	none := func(alg, sig string) attack {
		return attack{"alg " + alg + " and signature " + sig, "", func(p party) string {
			if sig == "" {
				return p.bytes(`{"alg":"`+alg+`"}`, "")
			}
			return p.bytes(`{"alg":"`+alg+`"}`, p.part(2))
		}, invalid}
	}
	return []attack{
		none("none", ""), none("None", ""), none("nOnE", ""), none("NONE", ""), none("none ", ""), none("", ""), none("none", "kept"), none("none\\u0000", ""),
		{"no alg", "", func(p party) string { return p.sign(`{"typ":"JWT"}`, p.body(ada)) }, invalid},
		{"alg in other case", "", func(p party) string { return p.sign(`{"alg":"`+strings.ToLower(p.alg())+`x"}`, p.body(ada)) }, invalid},
		{"ALG", "", func(p party) string { return p.sign(`{"ALG":"`+p.alg()+`"}`, p.body(ada)) }, invalid},
		{"alg is a number", "", func(p party) string { return p.sign(`{"alg":1}`, p.body(ada)) }, invalid},
		{"alg is a list", "", func(p party) string { return p.sign(`{"alg":["`+p.alg()+`"]}`, p.body(ada)) }, invalid},
		{"alg twice", "", func(p party) string { return p.sign(p.head(`,"alg":"none"`), p.body(ada)) }, malformed},
		{"alg twice, escaped", "", func(p party) string { return p.sign(p.head(`,"a\u006cg":"none"`), p.body(ada)) }, malformed},
		{"HS256 with the public PEM", "public", func(p party) string { return p.hmac(p.public) }, invalid},
		{"HS256 with the public PEM without its last line break", "public", func(p party) string { return p.hmac(p.public[:len(p.public)-1]) }, invalid},
		{"HS256 with the public DER", "public", func(p party) string { return p.hmac(derOf(p.public)) }, invalid},
		{"HS256 with the raw public key", "EdDSA", func(p party) string { return p.hmac(p.key.(ed25519.PrivateKey)[32:]) }, invalid},
		{"HS256 with the modulus", "RS256", func(p party) string { return p.hmac(newKeys().rsa.N.Bytes()) }, invalid},
		{"HS256 with nothing", "", func(p party) string { return p.hmac(nil) }, invalid},
		{"HS256 with 32 zeros", "", func(p party) string { return p.hmac(make([]byte, 32)) }, invalid},
		{"HS256 with another issuer's secret", "public", func(p party) string { return p.hmac([]byte(hmacSecret)) }, invalid},
		{"HS512 where HS256 is accepted", "HS256", func(p party) string { return p.hmacAs(p.key.([]byte), jwt.SigningMethodHS512) }, invalid},
		{"PS256 where RS256 is accepted", "RS256", func(p party) string {
			return signText(jwt.SigningMethodPS256, p.key, text(`{"alg":"PS256"}`, p.body(ada)))
		}, invalid},
		{"RS256 where PS256 is accepted", "PS256", func(p party) string {
			return signText(jwt.SigningMethodRS256, p.key, text(`{"alg":"RS256"}`, p.body(ada)))
		}, invalid},
		{"PKCS#1 padding under PS256", "PS256", func(p party) string {
			return signText(jwt.SigningMethodRS256, p.key, text(p.head(""), p.body(ada)))
		}, invalid},
		{"ES384 where ES256 is accepted", "ES256", func(p party) string {
			return signText(jwt.SigningMethodES384, newKeys().p384, text(`{"alg":"ES384"}`, p.body(ada)))
		}, invalid},
		{"ES256 by a P-384 key", "ES256", func(p party) string {
			return signText(jwt.SigningMethodES384, newKeys().p384, text(p.head(""), p.body(ada)))
		}, invalid},
	}
}

func attacksOnKeys() []attack {
	byStranger := func(name, more string) attack {
		return attack{name + ", by the attacker", "", func(p party) string { return p.forge(p.head(more), p.body(ada)) }, invalid}
	}
	all := []attack{
		byStranger("nothing more", ""),
		byStranger("kid", `,"kid":"../../../dev/null"`),
		{"the attacker's jwk", "EdDSA", func(p party) string {
			x := b64.EncodeToString(p.stranger.(ed25519.PrivateKey)[32:])
			return p.forge(p.head(`,"jwk":{"kty":"OKP","crv":"Ed25519","x":"`+x+`"}`), p.body(ada))
		}, invalid},
		{"another issuer's name", "", func(p party) string { return p.sign(p.head(""), p.claims("iss", "https://another.example")) }, invalid},
	}
	for name, more := range map[string]string{
		"jku":     `,"jku":"https://evil.example/jwks.json"`,
		"jwk":     `,"jwk":{"kty":"oct","k":""}`,
		"x5u":     `,"x5u":"https://evil.example/cert.pem"`,
		"x5c":     `,"x5c":["MIIB"]`,
		"b64":     `,"b64":false`,
		"zip":     `,"zip":"DEF"`,
		"1e400":   `,"x":1e400`,
		"kid ../": `,"kid":"../../../dev/null"`,
		"kid SQL": `,"kid":"' UNION SELECT 'secret'--"`,
		"kid NUL": `,"kid":"a\u0000b"`,
		"kid URL": `,"kid":"https://evil.example/"`,
		"no kid":  `,"kid":""`,
	} {
		want := harmless
		if name == "1e400" { // golang-jwt reads the whole header, and has no such number.
			want = malformed
		}
		all = append(all, headers(more, want)(name+", by the issuer"))
		if want == harmless {
			all = append(all, byStranger(name, more))
		}
	}
	return all
}

func attacksOnSignatures() []attack {
	sig := func(name, only, reason string, change func(sig []byte) []byte) attack {
		return attack{name, only, func(p party) string { return p.signature(change) }, reason}
	}
	n := elliptic.P256().Params().N
	pair := func(r, s *big.Int) func([]byte) []byte {
		return func([]byte) []byte { return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...) }
	}
	zero, one := new(big.Int), big.NewInt(1)
	return []attack{
		sig("no signature", "", invalid, func([]byte) []byte { return nil }),
		sig("zeros", "", invalid, func(s []byte) []byte { return make([]byte, len(s)) }),
		sig("ones", "", invalid, func(s []byte) []byte { return slices.Repeat([]byte{0xff}, len(s)) }),
		sig("one byte", "", invalid, func([]byte) []byte { return []byte{0} }),
		sig("a byte short", "", invalid, func(s []byte) []byte { return s[:len(s)-1] }),
		sig("a byte more", "", invalid, func(s []byte) []byte { return append(s, 0) }),
		sig("a zero before", "", invalid, func(s []byte) []byte { return append([]byte{0}, s...) }),
		sig("the first bit", "", invalid, func(s []byte) []byte { s[0] ^= 0x80; return s }),
		sig("the last bit", "", invalid, func(s []byte) []byte { s[len(s)-1] ^= 1; return s }),
		sig("a half", "", invalid, func(s []byte) []byte { return s[:len(s)/2] }),
		sig("r and s are 0", "ES256", invalid, pair(zero, zero)),
		sig("r is 0", "ES256", invalid, pair(zero, one)),
		sig("s is 0", "ES256", invalid, pair(one, zero)),
		sig("r and s are n", "ES256", invalid, pair(n, n)),
		sig("r and s are 1", "ES256", invalid, pair(one, one)),
		sig("ASN.1", "ES256", invalid, func(s []byte) []byte {
			der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:])})
			if err != nil {
				panic(err)
			}
			return der
		}),
		// Both s and n-s sign the same text, and RFC 7518 wants neither: half of all
		// honest signatures have the larger one.
		sig("n-s for s", "ES256", harmless, func(s []byte) []byte {
			return append(slices.Clone(s[:32]), new(big.Int).Sub(n, new(big.Int).SetBytes(s[32:])).FillBytes(make([]byte, 32))...)
		}),
		sig("S and the group's order", "EdDSA", invalid, addOrder),
		sig("R of small order and S of 0", "EdDSA", invalid, func([]byte) []byte { return append([]byte{1}, make([]byte, 63)...) }),
		sig("s and the modulus", "RSA", invalid, func(s []byte) []byte {
			return new(big.Int).Add(new(big.Int).SetBytes(s), newKeys().rsa.N).FillBytes(make([]byte, len(s)+1))
		}),
		sig("the text in place of its signature", "RSA", invalid, func(s []byte) []byte { return one.FillBytes(s) }),
	}
}

// addOrder spells S of an Ed25519 signature another way (RFC 8032, 5.1.7).
func addOrder(sig []byte) []byte {
	l, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := slices.Clone(sig[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), l).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return append(slices.Clone(sig[:32]), sum...)
}

func attacksOnHeaders() []attack {
	var all []attack
	for _, typ := range []string{"JWT", "jwt", "JOSE", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt", ""} {
		all = append(all, headers(`,"typ":"`+typ+`"`, harmless)("typ "+typ))
	}
	for _, typ := range []string{"dpop+jwt", "logout+jwt", "secevent+jwt", "entity-statement+jwt", "oauth-authz-req+jwt", "at+jwt2", "JWT ", "text/at+jwt", "application/application/jwt"} {
		all = append(all, headers(`,"typ":"`+typ+`"`, invalid)("typ "+typ))
	}
	return append(all,
		headers(`,"typ":7`, malformed)("typ is a number"),
		headers(`,"typ":null`, malformed)("typ is null"),
		headers(`,"cty":"JWT"`, invalid)("a nested token"),
		headers(`,"cty":"application/jwt"`, invalid)("a nested token, in full"),
		attack{"a token in a token", "", func(p party) string { return p.sign(p.head(""), p.good()) }, malformed},
		attack{"a token in a token, as a string", "", func(p party) string { return p.sign(p.head(""), `"`+p.good()+`"`) }, invalid},
		headers(`,"crit":["exp"]`, invalid)("crit"),
		headers(`,"crit":["b64"],"b64":false`, invalid)("crit with b64"),
		headers(`,"crit":[]`, invalid)("crit of nothing"),
		headers(`,"crit":null`, invalid)("crit is null"),
		headers(`,"kid":7`, malformed)("kid is a number"),
		headers(`,"kid":null`, malformed)("kid is null"),
		headers(`,"kid":"a","kid":"b"`, malformed)("kid twice"),
		headers(`,"kid":"`+strings.Repeat("k", 257)+`"`, malformed)("kid of 257 bytes"),
		headers(`,"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40), malformed)("a deep header"),
		headers(",\"x\":\"\xff\"", malformed)("a header that is not UTF-8"),
		attack{"a list as header", "", func(p party) string { return p.sign(`[]`, p.body(ada)) }, malformed},
		attack{"null as header", "", func(p party) string { return p.sign(`null`, p.body(ada)) }, malformed},
		attack{"a string as header", "", func(p party) string { return p.sign(`"x"`, p.body(ada)) }, malformed},
		attack{"half a header", "", func(p party) string { return p.sign(`{`, p.body(ada)) }, malformed},
		attack{"two headers", "", func(p party) string { return p.sign(p.head("")+p.head(""), p.body(ada)) }, malformed},
	)
}

func attacksOnClaims() []attack {
	return []attack{
		changed(invalid, "sub", nil)("no subject"),
		changed(invalid, "sub", "")("empty subject"),
		changed(invalid, "sub", "ada admin")("subject with a space"),
		changed(invalid, "sub", "ada\n")("subject with a line break"),
		changed(invalid, "sub", "ada\x00")("subject with NUL"),
		changed(invalid, "sub", "ada\x7f")("subject with DEL"),
		changed(invalid, "sub", strings.Repeat("a", 256))("subject of 256"),
		changed(invalid, "sub", 7)("subject is a number"),
		changed(invalid, "sub", []string{"ada"})("subject is a list"),
		bodies(`,"sub":"ada\ud800"`, invalid)("subject of half a character"),
		bodies(",\"sub\":\"ada\xff\"", invalid)("claims that are not UTF-8"),
		bodies(`,"sub":"ada","sub":"root"`, invalid)("a subject twice"),
		bodies(`,"sub":"ada","s\u0075b":"root"`, invalid)("a subject twice, escaped"),
		bodies(`,"sub":"ada","x":1,"x":2`, invalid)("a claim that nobody reads twice"),
		bodies(`,"sub":"ada","iss":"https://another.example"`, invalid)("an issuer twice"),
		bodies(`,"SUB":"root","Sub":"root","sub":"ada","Scope":"admin","AUD":"x"`, harmless)("claims of other case"),
		bodies(`,"sub":"ada","x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40), invalid)("deep claims"),
		bodies(`,"sub":"ada","x":"`+strings.Repeat("[", 99)+`"`, harmless)("brackets in a string"),
		bodies(`,"sub":"ada","x":1e400`, harmless)("1e400 in a claim that nobody reads"),
		bodies(`,"sub":"ada","__proto__":{"admin":true}`, harmless)("__proto__"),
		changed(invalid, "iss", nil)("no issuer"),
		changed(invalid, "iss", "")("empty issuer"),
		{"issuer with a slash", "", func(p party) string { return p.sign(p.head(""), p.claims("iss", p.name()+"/")) }, invalid},
		{"issuer of other case", "", func(p party) string { return p.sign(p.head(""), p.claims("iss", strings.ToUpper(p.name()))) }, invalid},
		{"issuer in a list", "", func(p party) string { return p.sign(p.head(""), p.claims("iss", []string{p.name()})) }, invalid},
		changed(invalid, "aud", nil)("no audience"),
		changed(invalid, "aud", "")("empty audience"),
		changed(invalid, "aud", []string{})("no audience in a list"),
		changed(invalid, "aud", []any{"shop", 7})("audience with a number"),
		changed(invalid, "aud", map[string]any{"shop": true})("audience is an object"),
		changed(invalid, "aud", "shop2")("audience that begins the same"),
		changed(invalid, "aud", "shop other")("two audiences in a string"),
		changed(invalid, "aud", "SHOP")("audience of other case"),
		changed(harmless, "aud", []string{"other", "shop"})("one of several audiences"),
		changed(invalid, "scope", `a"b`)("scope with a quote"),
		changed(invalid, "scope", "a\tb")("scope with a tab"),
		changed(invalid, "scope", 7)("scope is a number"),
		changed(invalid, "scopes", []string{"a b"})("a scope with a space in a list"),
		changed(invalid, "scp", []string{""})("an empty scope in a list"),
		changed(invalid, "scp", []any{"a", 7})("a number in a list of scopes"),
		{"a list as payload", "", func(p party) string { return p.sign(p.head(""), `[]`) }, invalid},
		{"null as payload", "", func(p party) string { return p.sign(p.head(""), `null`) }, invalid},
		{"no payload", "", func(p party) string { return p.sign(p.head(""), ``) }, malformed},
		{"two payloads", "", func(p party) string { return p.sign(p.head(""), p.body(ada)+p.body(ada)) }, malformed},
		{"another payload", "", func(p party) string {
			return p.part(0) + "." + b64.EncodeToString([]byte(p.body(`,"sub":"root"`))) + "." + p.part(2)
		}, invalid},
	}
}

func attacksOnTimes() []attack {
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	return []attack{
		changed(invalid, "exp", nil)("no exp"),
		changed(expired, "exp", at(-30*time.Second))("expired"),
		changed(expired, "exp", 0)("expired in 1970"),
		changed(harmless, "exp", at(-29*time.Second))("expired within the leeway"),
		changed(harmless, "exp", float64(at(time.Hour))+0.5)("exp with a fraction"),
		changed(invalid, "exp", fmt.Sprint(at(time.Hour)))("exp is a string"),
		changed(invalid, "exp", true)("exp is true"),
		changed(invalid, "exp", []int64{at(time.Hour)})("exp is a list"),
		changed(invalid, "exp", -1)("exp before 1970"),
		changed(invalid, "exp", 1e300)("exp past all time"),
		changed(invalid, "exp", 253402300800)("exp past the year 9999"),
		changed(invalid, "exp", uint64(1<<63))("exp that wraps"),
		{"exp of 1e400", "", func(p party) string {
			return p.sign(p.head(""), strings.Replace(p.body(ada), `"exp":`, `"exp":1e400,"x":`, 1))
		}, invalid},
		{"exp is null", "", func(p party) string {
			return p.sign(p.head(""), strings.Replace(p.body(ada), `"exp":`, `"exp":null,"x":`, 1))
		}, invalid},
		{"exp twice", "", func(p party) string { return p.sign(p.head(""), p.body(ada+`,"exp":1893560645`)) }, invalid},
		{"expired, and forged", "", func(p party) string { return p.forge(p.head(""), p.claims("exp", 1)) }, invalid},
		changed(invalid, "nbf", at(31*time.Second))("nbf to come"),
		changed(harmless, "nbf", at(29*time.Second))("nbf within the leeway"),
		changed(invalid, "nbf", "0")("nbf is a string"),
		changed(invalid, "nbf", json.RawMessage("null"))("nbf is null"),
		changed(invalid, "nbf", json.RawMessage("1e400"))("nbf of 1e400"),
		changed(invalid, "iat", at(31*time.Second))("iat to come"),
		changed(harmless, "iat", at(29*time.Second))("iat within the leeway"),
		changed(harmless, "iat", nil)("no iat"),
		changed(invalid, "iat", "0")("iat is a string"),
		changed(invalid, "iat", json.RawMessage("null"))("iat is null"),
	}
}

func attacksOnSpelling() []attack {
	around := func(name string, change func(token string) string) attack {
		return attack{name, "", func(p party) string { return change(p.good()) }, malformed}
	}
	return []attack{
		around("nothing", func(string) string { return "" }),
		around("a space before", func(s string) string { return " " + s }),
		around("a space behind", func(s string) string { return s + " " }),
		around("a line break behind", func(s string) string { return s + "\n" }),
		around("a line break within", func(s string) string { return strings.Replace(s, ".", ".\r\n", 1) }),
		around("NUL behind", func(s string) string { return s + "\x00" }),
		around("padding", func(s string) string { return s + "==" }),
		around("padding of the header", func(s string) string { return strings.Replace(s, ".", "=.", 1) }),
		around("the other alphabet", func(s string) string { return s + "+/" }),
		around("two parts", func(s string) string { return s[:strings.LastIndexByte(s, '.')] }),
		around("four parts", func(s string) string { return s + ".x" }),
		around("five parts, as JWE has", func(s string) string { return s + ".x.y" }),
		around("a dot before", func(s string) string { return "." + s }),
		around("JSON serialization", func(s string) string { return `{"payload":"` + s + `"}` }),
		around("a character that is left over", func(s string) string { return strings.Replace(s, ".", "A.", 1) + "AAA" }),
		around("8 KiB of it", func(s string) string { return s + strings.Repeat("A", 8<<10) }),
		around("1 MiB of dots", func(string) string { return strings.Repeat(".", 1<<20) }),
	}
}

func (a attack) applies(p party) bool {
	switch a.only {
	case "":
		return true
	case "public":
		return p.public != nil
	case "RSA":
		return p.alg() == "RS256" || p.alg() == "PS256"
	}
	return a.only == p.alg()
}

func TestAttacks(t *testing.T) {
	v := attackedVerifier(t)
	for _, p := range parties() {
		if got, err := verify(v, p.good()); err != nil || got.Subject != "ada" || got.Issuer != p.name() {
			t.Fatalf("%s: the cases below would prove nothing: %v", p.alg(), err)
		}
		if _, err := verify(v, p.forge(p.head(""), p.body(ada))); err == nil {
			t.Fatalf("%s: the attacker's key is the issuer's", p.alg())
		}
		for _, a := range attacks() {
			if !a.applies(p) {
				continue
			}
			t.Run(p.alg()+"/"+a.name, func(t *testing.T) {
				token := a.token(p)
				for range 2 { // Not even the second time.
					got, err := verify(v, token)
					if a.reason == harmless {
						if err != nil || got.Subject != "ada" || got.Issuer != p.name() || got.Has("admin") {
							t.Fatalf("%+v, %v (%s)", got, err, auth.Why(err))
						}
						continue
					}
					if got != nil {
						t.Errorf("a principal %+v", got)
					}
					want(t, err, codes.Unauthenticated, a.reason, token)
					if auth.Why(err) == "" {
						t.Error("the operator learns nothing")
					}
				}
			})
		}
	}
}

// Base64 has bits left over at the end of most texts. A token has one spelling:
// with several, a list of refused tokens would be no list.
func TestOneSpellingOfAToken(t *testing.T) {
	v := attackedVerifier(t)
	tried := 0
	for _, p := range parties() {
		for pad := range 3 {
			token := p.sign(p.head(`,"x":"`+strings.Repeat("x", pad)+`"`), p.body(ada+`,"x":"`+strings.Repeat("x", pad)+`"`))
			if _, err := verify(v, token); err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(token, ".")
			for i, part := range parts {
				raw, _ := b64.DecodeString(part)
				for c := range 256 {
					other := part[:len(part)-1] + string(rune(c))
					if same, err := b64.DecodeString(other); err != nil || other == part || string(same) != string(raw) {
						continue
					}
					tried++
					again := slices.Clone(parts)
					again[i] = other
					if got, err := verify(v, strings.Join(again, ".")); err == nil {
						t.Errorf("%s: another spelling of part %d is %+v", p.alg(), i, got)
					}
				}
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d other spellings were found", tried)
	}
}
