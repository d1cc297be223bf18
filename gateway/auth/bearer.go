package auth

import (
	"context"
	"errors"
	"strings"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Reasons of the google.rpc.ErrorInfo details of refusals.
const (
	reasonConflict    = "CREDENTIALS_CONFLICT"
	reasonCertExpired = "CERTIFICATE_EXPIRED"
	reasonUntrusted   = "CERTIFICATE_UNTRUSTED"
	reasonChanged     = "CREDENTIAL_CHANGED"
	reasonKeyExpired  = "API_KEY_EXPIRED"
	reasonKeyInvalid  = "API_KEY_INVALID"
	reasonExpired     = "TOKEN_EXPIRED"
	reasonInvalid     = "TOKEN_INVALID"
	reasonMalformed   = "CREDENTIAL_MALFORMED"
	reasonUnavailable = "KEYS_UNAVAILABLE"
)

// authorization is the header of bearer tokens (RFC 6750, 2.1).
var authorization = policy.NewHeader("Authorization")

var (
	errMalformed = errors.New("malformed token")
	errTooLong   = errors.New("the token is longer than is accepted")
)

// Authenticate is the policy.Check of a gateway that takes bearer tokens alone.
// [Authenticator] knows the other credentials too.
func (v *Verifier) Authenticate(ctx context.Context, c *policy.Call) (context.Context, error) {
	p, why, err := v.fromHeader(ctx, c.Headers(authorization.On(c.Edge)))
	if err != nil {
		c.Why = why
		return ctx, err
	}
	c.Principal = policy.Anonymous
	if p != nil {
		c.Principal = p
	}
	return ctx, nil
}

// fromHeader returns whom the values of an authorization header (RFC 6750) stand for:
// nil where there is none. Why is for the operator, beside an error.
func (v *Verifier) fromHeader(ctx context.Context, values []string) (p *policy.Principal, why string, err error) {
	if len(values) == 0 {
		return nil, "", nil
	}
	token, ok := bearer(values)
	if !ok {
		return nil, "the authorization header comes more than once, or holds no bearer token",
			refuse(reasonMalformed, "the credential is malformed: send one `Authorization: Bearer <token>`")
	}
	if p, err = v.Verify(ctx, token); err != nil {
		return nil, Why(err), err
	}
	return p, "", nil
}

func bearer(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	return token, strings.EqualFold(scheme, "bearer") && token != ""
}

// refusedToken is a status error that remembers for the operator what the caller
// is not told. It is not unwrapped: a cause must not decide over the answer.
type refusedToken struct {
	error
	cause error
}

// GRPCStatus is what package status reads.
func (r *refusedToken) GRPCStatus() *status.Status { return status.Convert(r.error) }

// Why says for the log why Verify refused a token, in 200 bytes at most. Of the
// token itself it tells nothing. It is empty for other errors.
func Why(err error) string {
	var r *refusedToken
	if !errors.As(err, &r) {
		return ""
	}
	why := r.cause.Error()
	return strings.ToValidUTF8(why[:min(len(why), 200)], "")
}

// answer turns an error of verification into what the caller is told: never
// the library's text, never a part of the token.
func answer(err error) error { return &refusedToken{error: statusOf(err), cause: err} }

func statusOf(err error) error {
	switch {
	case errors.Is(err, ErrKeysUnavailable):
		return refusal(codes.Unavailable, reasonUnavailable, ErrKeysUnavailable.Error())
	case errors.Is(err, context.Canceled):
		return status.FromContextError(context.Canceled).Err()
	case errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(context.DeadlineExceeded).Err()
	case errors.Is(err, errClaims):
		return refuse(reasonInvalid, "the token is not valid: its claims are malformed")
	case errors.Is(err, errTooLong):
		return refuse(reasonMalformed, errTooLong.Error())
	case errors.Is(err, errMalformed), errors.Is(err, jwt.ErrTokenMalformed):
		return refuse(reasonMalformed, "the credential is malformed: it is not a JSON Web Token")
	case errors.Is(err, errType):
		return refuse(reasonInvalid, "the token is not valid: it is not an access token")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return refuse(reasonInvalid, "the token is not valid: its issuer is not accepted")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return refuse(reasonInvalid, "the token is not valid: it is for another audience")
	case errors.Is(err, jwt.ErrTokenInvalidSubject):
		return refuse(reasonInvalid, "the token is not valid: its subject is missing or not acceptable")
	case errors.Is(err, errTenant):
		return refuse(reasonInvalid, "the token is not valid: its tenant is not acceptable")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refuse(reasonInvalid, "the token is not valid yet")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(reasonExpired, "the token has expired")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return refuse(reasonInvalid, "the token is not valid: it lacks a claim that is required")
	default:
		return refuse(reasonInvalid, "the token is not valid")
	}
}

func refuse(reason, msg string) error { return refusal(codes.Unauthenticated, reason, msg) }

func refusal(code codes.Code, reason, msg string) error {
	st := status.New(code, msg)
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain})
	if err != nil { // Only codes.OK can fail here.
		return st.Err()
	}
	return detailed.Err()
}
