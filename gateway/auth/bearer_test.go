package auth_test

import (
	"context"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestAuthenticate(t *testing.T) {
	const malformed, invalid, expired = "CREDENTIAL_MALFORMED", "TOKEN_INVALID", "TOKEN_EXPIRED"
	k := newKeys()
	token := signed(t, jwt.SigningMethodEdDSA, k.ed, good())
	forged := signed(t, jwt.SigningMethodEdDSA, k.strangerEd, good())
	old := signed(t, jwt.SigningMethodEdDSA, k.ed, with("exp", 1))
	for name, tc := range map[string]struct {
		values  []string
		subject string // "" is Anonymous.
		reason  string // "" is no refusal.
	}{
		"no header":                 {values: nil},
		"bearer":                    {values: []string{"Bearer " + token}, subject: "ada"},
		"scheme in lower case":      {values: []string{"bearer " + token}, subject: "ada"},
		"scheme in upper case":      {values: []string{"BEARER " + token}, subject: "ada"},
		"several spaces":            {values: []string{"Bearer   " + token + " "}, subject: "ada"},
		"two headers":               {values: []string{"Bearer " + token, "Bearer " + token}, reason: malformed},
		"a good and an empty one":   {values: []string{"Bearer " + token, ""}, reason: malformed},
		"two in one":                {values: []string{"Bearer " + token + ", Bearer " + token}, reason: malformed},
		"two tokens":                {values: []string{"Bearer " + token + " " + token}, reason: malformed},
		"an empty header":           {values: []string{""}, reason: malformed},
		"scheme alone":              {values: []string{"Bearer"}, reason: malformed},
		"scheme and a space":        {values: []string{"Bearer "}, reason: malformed},
		"token alone":               {values: []string{token}, reason: malformed},
		"a space first":             {values: []string{" Bearer " + token}, reason: malformed},
		"a tab":                     {values: []string{"Bearer\t" + token}, reason: malformed},
		"basic":                     {values: []string{"Basic YWRhOnB3"}, reason: malformed},
		"no token at all":           {values: []string{"Bearer x"}, reason: malformed},
		"a huge token":              {values: []string{"Bearer " + strings.Repeat("a", 1<<20)}, reason: malformed},
		"forged":                    {values: []string{"Bearer " + forged}, reason: invalid},
		"expired":                   {values: []string{"Bearer " + old}, reason: expired},
		"a percent sign in the end": {values: []string{"Bearer " + token + "%00"}, reason: malformed},
	} {
		for _, public := range []bool{false, true} { // A bad credential is refused even where none is needed.
			t.Run(name, func(t *testing.T) {
				v := newVerifier(t, newClock().Now)
				c := &policy.Call{
					Method: &policy.Method{Rule: policy.Rule{Public: public}},
					Edge:   policy.EdgeGRPC,
					Headers: func(key string) []string {
						if key != "authorization" {
							t.Errorf("asked for %q", key)
						}
						return tc.values
					},
				}
				ctx, err := policy.Chain{{Name: "auth", Check: v.Authenticate}}.Admit(context.Background(), c)
				if tc.reason != "" {
					want(t, err, codes.Unauthenticated, tc.reason, strings.Join(tc.values, "."))
					if c.Principal.Authenticated() || policy.Admitted(ctx) != nil {
						t.Errorf("refused as %+v", c.Principal)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if c.Principal.Subject != tc.subject || (tc.subject == "") != (c.Principal == policy.Anonymous) {
					t.Errorf("principal %+v", c.Principal)
				}
			})
		}
	}
}
