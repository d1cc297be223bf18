package upstream

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestDetailsAreBounded: a service that says too much costs the caller a
// detail, not the connection.
func TestDetailsAreBounded(t *testing.T) {
	many := &errdetails.BadRequest{}
	for range 60_000 {
		many.FieldViolations = append(many.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: "lines", Description: "is wrong"})
	}
	long := &errdetails.LocalizedMessage{Locale: "en", Message: strings.Repeat("x", 1<<20)}
	for name, d := range map[string]protoadapt.MessageV1{"many": many, "long": long} {
		st, err := status.New(codes.InvalidArgument, "no").WithDetails(d)
		if err != nil {
			t.Fatal(err)
		}
		got := publicStatus(t.Context(), st, false)
		if n := proto.Size(got.Proto()); n > 8<<10 || got.Code() != codes.InvalidArgument {
			t.Errorf("%s: %v of %d bytes", name, got.Code(), n)
		}
		if name == "many" && len(got.Details()[0].(*errdetails.BadRequest).GetFieldViolations()) != maxViolations {
			t.Errorf("%s: %d violations", name, len(got.Details()[0].(*errdetails.BadRequest).GetFieldViolations()))
		}
	}
}

// TestOnlyTheGatewaySpeaksForItself: the domain of the gateway's own reasons is
// taken out of what another process answers.
func TestOnlyTheGatewaySpeaksForItself(t *testing.T) {
	st, err := status.New(codes.NotFound, "no").WithDetails(
		&errdetails.ErrorInfo{Domain: policy.ErrorDomain, Reason: "X", Metadata: map[string]string{"http_status": "418"}},
		&errdetails.ErrorInfo{Domain: "shop", Reason: "Y"})
	if err != nil {
		t.Fatal(err)
	}
	got := withoutOurs(st).Details()
	if len(got) != 1 || got[0].(*errdetails.ErrorInfo).GetReason() != "Y" {
		t.Errorf("details: %v", got)
	}
}
