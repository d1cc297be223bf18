package kittest

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
)

// Suite runs test over both engines and both transports. The test opens the service,
// as often as it wants, on databases of the engine.
func Suite(t *testing.T, test func(t *testing.T, e dbtest.Engine, transport string)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		for _, transport := range Transports() {
			t.Run(transport, func(t *testing.T) { test(t, e, transport) })
		}
	})
}

// ServeService serves a service, as it was opened, until the test ends, and then
// closes it.
func ServeService(t testing.TB, transport string, s *kit.Service, err error) *Conn {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return Serve(t, transport, s.Register, nil)
}

// WantCode fails the test unless err has the code, and returns its status.
func WantCode(t testing.TB, err error, code codes.Code) *status.Status {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("err = %v, want %s", err, code)
	}
	return st
}

// WantField fails the test unless err is INVALID_ARGUMENT of one field.
func WantField(t testing.TB, err error, field string) {
	t.Helper()
	st := WantCode(t, err, codes.InvalidArgument)
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) == 1 && bad.GetFieldViolations()[0].GetField() == field {
			return
		}
	}
	t.Fatalf("err = %v %v, want a violation of %s", err, st.Details(), field)
}

// WantReason fails the test unless err has the code and an ErrorInfo with the
// reason.
func WantReason(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	st := WantCode(t, err, code)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == reason {
			return
		}
	}
	t.Fatalf("err = %v %v, want reason %s", err, st.Details(), reason)
}
