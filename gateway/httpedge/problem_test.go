package httpedge

import (
	"bytes"
	"encoding/json"
	"flag"
	"google.golang.org/protobuf/protoadapt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

var update = flag.Bool("update", false, "write the golden file anew")

// TestProblems holds what clients parse.
func TestProblems(t *testing.T) {
	with := func(c codes.Code, msg string, d ...protoadapt.MessageV1) *status.Status {
		st, err := status.New(c, msg).WithDetails(d...)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	var out bytes.Buffer
	for _, st := range []*status.Status{
		status.New(codes.NotFound, "user nobody is not there"),
		status.New(codes.Unavailable, "the service is unavailable, try again"),
		status.New(codes.Canceled, "the caller went away"),
		status.New(codes.Code(99), "what is this"),
		status.Convert(BadField("user.email", "must be an e-mail address")),
		with(codes.PermissionDenied, "the token lacks the scope users.read", &errdetails.ErrorInfo{Reason: "SCOPE_MISSING", Domain: policy.ErrorDomain, Metadata: map[string]string{"scope": "users.read"}}),
		with(codes.Internal, "the service sent an answer that the gateway cannot read", &errdetails.ErrorInfo{Reason: ReasonBadResponse, Domain: policy.ErrorDomain}),
		with(codes.FailedPrecondition, "<script>", &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: "STATE", Subject: "o1", Description: "is shipped"}}}),
		with(codes.ResourceExhausted, "slow down", &errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)}),
		// What only looks like the edge's own says nothing about the status.
		with(codes.NotFound, "gone", &errdetails.ErrorInfo{Reason: "X", Domain: "example.com", Metadata: map[string]string{metaStatus: "418"}}),
		with(codes.NotFound, "gone", &errdetails.ErrorInfo{Reason: "X", Domain: policy.ErrorDomain, Metadata: map[string]string{metaStatus: "200"}}),
		status.Convert(badPath(os.ErrInvalid)), status.Convert(noSuchPath()), status.Convert(methodNotAllowed("GET, HEAD")),
		status.Convert(unsupportedEncoding()), status.Convert(BodyTooLarge(1 << 20)), status.Convert(bodyTooSlow()), status.Convert(bodyBroken()),
		status.Convert(badTarget()), status.Convert(badMethod()), status.Convert(badHost()), status.Convert(urlTooLong(8192)), status.Convert(tooManyHeaders(100)), status.Convert(tooManyParameters(100)),
		status.Convert(badGzip()), status.Convert(decodedTooLarge(1 << 20)),
	} {
		b, err := NewProblem(st, "id-1").JSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Indent(&out, b, "", "  "); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
	}
	file := filepath.Join("testdata", "problems.golden")
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, out.Bytes()) {
		t.Errorf("differs from %s (go test ./gateway/httpedge -run TestProblems -update writes it anew):\n%s", file, out.Bytes())
	}
}
