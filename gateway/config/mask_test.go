package config

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMask(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"redis://:pw@h:6379", "redis://***@h:6379"},
		{"url: redis://u:p@w@h", "url: redis://*****@h"},
		{"redis://:a b@h", "redis://****@h"},
		{"redis:u:pw@h", "redis:****@h"},
		{"redis://h:1/0?password=pw&x=1", "redis://h:1/0?password=******"},
		{`dsn: "host=h user=u password=pw"`, `dsn: "host=h user=u password=***`},
		{`host=h password='p w\' x' port=1`, `host=h password=********* port=1`},
		{`host=h PASSWORD = "p w" port=1`, `host=h PASSWORD = ***** port=1`},
		{"passwd=a pwd=b secret=c token=d", "passwd=* pwd=* secret=* token=*"},
		{"sslpassword=é", "sslpassword=*"},
		{"    password: two words", "    password: *********"},
		{"secret: true", "secret: true"},
		{"{token: null}", "{token: null}"},
		{"secret: true-love", "secret: *********"},
		{"allow_credentials: yes, password: two}", "allow_credentials: yes, password: ****"},
		{`{"client_secret":"x", a: b}`, `{"client_secret":**********`},
		{"Authorization: Bearer abc", "Authorization: Bearer ***"},
		{"sluice_ada-1_R8x", "****************"},
		{"SLUICE_ada_R8x", "**************"},
		{"x eyJhbGciOiJub25lIn0.e30. y", "x ************************ y"},
		// What is no secret stays.
		{"hmac_secret_file: /run/x", "hmac_secret_file: /run/x"},
		{"password_file: x", "password_file: x"},
		{"api_keys: {file: x}", "api_keys: {file: x}"},
		{"per: api_key, requests: 5", "per: api_key, requests: 5"},
		{"issuer: https://login.example.com/", "issuer: https://login.example.com/"},
		{`email: "*@example.com"`, `email: "*@example.com"`},
	} {
		got := mask(tc.text)
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.text, got, tc.want)
		}
		if utf8.RuneCountInString(got) != utf8.RuneCountInString(tc.text) {
			t.Errorf("%s: columns move", tc.text)
		}
	}
}

const (
	aToken = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJodW50ZXIyIn0.c2ln"
	aKey   = "sluice_k_hunter2hunter2hunter2"
)

// TestNothingTellsASecret puts secrets where each check of a file prints what it
// found: the kinds of values, keys, the rules of the schema, what is checked
// across values, and YAML itself.
func TestNothingTellsASecret(t *testing.T) {
	values := []string{
		aKey, aToken, "redis://:hunter2@h:6379", "postgres://u:hunter2@h/db", "redis://h:1/0?password=hunter2",
		`"host=h user=u password=hunter2"`, `"host=h password='hunter2 hunter2'"`, "Bearer hunter2", "token=hunter2",
		"'" + strings.Repeat("x", 150) + "//" + strings.Repeat("u", 20) + ":hunter2@h'",
	}
	for name, content := range map[string]string{
		"a message": "http: $", "a list": "auth: {issuers: $}", "the file itself": "$", "a bool": "grpc: {reflection: $}",
		"a number": "http: {max_connections: $}", "a duration": "shutdown: {grace: $}", "an address": "http: {addr: $}",
		"a map": "databases: $", "an entry of a map": "databases: {user: $}", "a DSN": "databases: {user: {dsn: $}}", "a list for a text": "databases: {user: {dsn: [$]}}",
		"Redis": "limits: {redis: {url: $}}", "an enum": "limits: {redis: {fallback: $}}", "a key": "$: 1", "a key of a message": "http: {? $ : 1}",
		"a key twice": "databases: {? $ : {}, ? $ : {}}", "a header": "auth: {api_keys: {header: $}}", "a claim": "auth: {issuers: [{issuer: i, audiences: [a], jwks_url: 'https://h', claims: {tenant: $}}]}",
		"a URL of keys": "auth: {issuers: [{issuer: i, audiences: [a], jwks_url: $}]}", "an algorithm": "auth: {issuers: [{issuer: i, algorithms: [$]}]}",
		"a hash": "auth: {api_keys: {keys: [{id: a, owner: b, hash: $}]}}", "an id": "auth: {api_keys: {keys: [{id: $}]}}", "an expiry": "auth: {api_keys: {keys: [{expires: $}]}}",
		"a class": "auth: {api_keys: {keys: [{id: a, owner: b, hash: 'sha256:" + strings.Repeat("0", 64) + "', limit_class: $}]}}",
		"a proxy": "client_address: {trusted_proxies: [$]}", "a key nobody knows": "redis_password: $",
		"an issuer twice": "auth: {issuers: [{issuer: $, audiences: [a], jwks_url: 'https://h'}, {issuer: $, audiences: [a], jwks_url: 'https://h'}]}",
	} {
		failed := 0
		for _, v := range values {
			_, err := load(&file{path: "c.yaml", data: []byte(strings.ReplaceAll(content, "$", v) + "\n")}, noEnv)
			if err == nil {
				continue // Not everything is wrong everywhere.
			}
			failed++
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "eyJzdWI") {
				t.Errorf("%s: %s", name, err)
			}
		}
		if failed == 0 {
			t.Errorf("%s: nothing was refused", name)
		}
	}
	for _, content := range []string{"url: *hunter2", "url: &hunter2 [*hunter2]", "keys:\n  - id: a\n  " + aKey, "keys: " + aKey, "keys:\n  " + aKey, "keys: [" + aKey + "]"} {
		if _, err := loadAPIKeys(&file{path: "k.yaml", data: []byte(content)}); err == nil || strings.Contains(errText(err), "hunter2") {
			t.Errorf("%s: %v", content, err)
		}
	}
	for _, v := range values {
		if _, err := Load("", env("SLUICE_HTTP_ADDR", v)); err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "eyJzdWI") {
			t.Errorf("the environment, %s: %v", v, err)
		}
	}
}

// errText is an error without the lines of the file it shows: an anchor stands
// there as it does in the file.
func errText(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if !strings.Contains(line, " | ") || strings.Contains(line, "sluice_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
