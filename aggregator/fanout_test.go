package aggregator

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
)

func TestFanoutBoundsConcurrency(t *testing.T) {
	for _, tc := range []struct {
		bound int
		want  int32
		after time.Duration
	}{
		{bound: 1, want: 1, after: 9 * time.Millisecond},
		{bound: 4, want: 4, after: 3 * time.Millisecond},
		{bound: 0, want: DefaultMaxConcurrency, after: 2 * time.Millisecond},
		{bound: 100, want: 9, after: time.Millisecond},
	} {
		t.Run(fmt.Sprint(tc.bound), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running, most atomic.Int32
				branch := func(context.Context) error {
					now := running.Add(1)
					defer running.Add(-1)
					for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
					}
					time.Sleep(time.Millisecond)
					return nil
				}
				start := time.Now()
				f := NewFanout(t.Context(), FanoutOptions{MaxConcurrency: tc.bound})
				for i := range 9 {
					if i%2 == 0 {
						f.Required("r", branch)
					} else {
						f.Optional("o", branch)
					}
				}
				if partial, err := f.Wait(); err != nil || partial != nil {
					t.Errorf("Wait: %v, %v; want nothing", partial, err)
				}
				if most.Load() != tc.want {
					t.Errorf("%d branches ran at once, want %d", most.Load(), tc.want)
				}
				if d := time.Since(start); d != tc.after {
					t.Errorf("took %v, want %v", d, tc.after)
				}
			})
		})
	}
}

// A branch that waits for its turn when the fan-out fails is never started.
func TestFanoutStartsNothingAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFanout(t.Context(), FanoutOptions{MaxConcurrency: 1})
		started := false
		f.Required("fails", func(context.Context) error {
			time.Sleep(time.Millisecond)
			return status.Error(codes.DataLoss, "first")
		})
		f.Required("queued", func(context.Context) error { started = true; return nil })
		f.Optional("queued too", func(context.Context) error { started = true; return nil })
		if _, err := f.Wait(); status.Code(err) != codes.DataLoss {
			t.Errorf("error %v, want DATA_LOSS", err)
		}
		if started {
			t.Error("a branch was started after the failure")
		}
	})
}

// The first required failure is the answer, though a later-declared branch has
// it and the earlier one fails too, by being cancelled.
func TestFanoutAnswersFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFanout(t.Context(), FanoutOptions{})
		f.Required("cancelled", func(ctx context.Context) error {
			<-ctx.Done()
			return status.Error(codes.Unavailable, "connection closing")
		})
		f.Required("fails", func(context.Context) error {
			time.Sleep(time.Millisecond)
			return status.Error(codes.FailedPrecondition, "own")
		})
		partial, err := f.Wait()
		if st := status.Convert(err); st.Code() != codes.FailedPrecondition || st.Message() != "own" {
			t.Errorf("status %v, want the first failure's", st)
		}
		if partial != nil {
			t.Errorf("partial %v beside an error", partial)
		}
	})
}

// Wait waits, even for a branch that ignores its context: nothing outlives it.
func TestFanoutWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		f := NewFanout(t.Context(), FanoutOptions{})
		f.Optional("stubborn", func(context.Context) error { time.Sleep(time.Minute); ended = true; return nil })
		f.Required("fails", func(context.Context) error {
			time.Sleep(time.Millisecond)
			return status.Error(codes.Internal, "")
		})
		if _, err := f.Wait(); status.Code(err) != codes.Internal {
			t.Errorf("error %v, want INTERNAL", err)
		}
		if !ended {
			t.Error("Wait returned before a branch did")
		}
	})
}

// The branch declared last runs where Wait is called, also when it is the only one,
// and its failure ends the siblings as any other's does.
func TestFanoutRunsTheLastHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFanout(t.Context(), FanoutOptions{})
		var cancelled time.Duration
		start := time.Now()
		f.Required("sibling", func(ctx context.Context) error {
			<-ctx.Done()
			cancelled = time.Since(start)
			return status.FromContextError(ctx.Err()).Err()
		})
		here := false
		f.Required("last", func(context.Context) error {
			var stack [4 << 10]byte
			here = strings.Contains(string(stack[:runtime.Stack(stack[:], false)]), "(*Fanout).Wait")
			time.Sleep(time.Millisecond)
			return status.Error(codes.DataLoss, "last")
		})
		if _, err := f.Wait(); status.Code(err) != codes.DataLoss || !here || cancelled != time.Millisecond {
			t.Errorf("error %v, on this goroutine %v, sibling cancelled after %v", err, here, cancelled)
		}
	})
	f := NewFanout(t.Context(), FanoutOptions{MaxConcurrency: 1})
	f.Optional("only", func(context.Context) error { panic("x") })
	if partial, err := f.Wait(); err != nil || len(partial) != 1 || partial[0].GetCode() != "INTERNAL" {
		t.Errorf("%v, %v", partial, err)
	}
}

func TestDeepen(t *testing.T) {
	if deepen(0) != 0 || deepen(3) != 1 || deepen(branchStack) != 1 {
		t.Error("the frame's room is not there")
	}
}

func TestFanoutWaitReleasesContext(t *testing.T) {
	f := NewFanout(t.Context(), FanoutOptions{})
	f.Required("done", func(context.Context) error { return nil })
	if _, err := f.Wait(); err != nil {
		t.Fatal(err)
	}
	if f.ctx.Err() == nil {
		t.Error("the group's context is still alive after Wait")
	}
}

func TestBranchTimeout(t *testing.T) {
	for _, tc := range []struct {
		name             string
		timeout, caller  time.Duration
		optional, firsts time.Duration // what a branch gets; 0: no deadline
	}{
		{name: "of its own", timeout: 100 * time.Millisecond, caller: 2 * time.Second, optional: 100 * time.Millisecond, firsts: 1800 * time.Millisecond},
		{name: "the caller's is nearer", timeout: 10 * time.Second, caller: time.Second, optional: 900 * time.Millisecond, firsts: 900 * time.Millisecond},
		{name: "least reserve", caller: 100 * time.Millisecond, optional: 50 * time.Millisecond, firsts: 50 * time.Millisecond},
		{name: "hurry", caller: 10 * time.Millisecond, optional: 5 * time.Millisecond, firsts: 5 * time.Millisecond},
		{name: "no hurry at all", optional: DefaultBranchTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, o := t.Context(), FanoutOptions{BranchTimeout: tc.timeout}
				if tc.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.caller)
					defer cancel()
				}
				remaining := func(into *time.Duration) Branch {
					return func(ctx context.Context) error {
						if deadline, ok := ctx.Deadline(); ok {
							*into = time.Until(deadline)
						}
						return nil
					}
				}
				var optional, required, first time.Duration
				if err := First(ctx, o, "first", remaining(&first)); err != nil {
					t.Fatal(err)
				}
				f := NewFanout(ctx, o)
				f.Optional("optional", remaining(&optional))
				f.Required("required", remaining(&required))
				if _, err := f.Wait(); err != nil {
					t.Fatal(err)
				}
				if optional != tc.optional || required != tc.caller || first != tc.firsts {
					t.Errorf("optional %v, required %v, first %v; want %v, %v, %v", optional, required, first, tc.optional, tc.caller, tc.firsts)
				}
			})
		})
	}
}

// A caller that is already gone costs its backends nothing.
func TestFanoutOfEndedCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	called := func(context.Context) error { t.Error("a branch was started"); return nil }
	f := NewFanout(ctx, FanoutOptions{})
	f.Optional("o", called)
	f.Required("r", called)
	if _, err := f.Wait(); status.Code(err) != codes.Canceled {
		t.Errorf("Wait: %v, want CANCELLED", err)
	}
	if err := First(ctx, FanoutOptions{}, "f", called); status.Code(err) != codes.Canceled {
		t.Errorf("First: %v, want CANCELLED", err)
	}
}

func TestStatusOf(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name string
		ctx  context.Context
		err  error
		want codes.Code
		text string
	}{
		{"status", t.Context(), status.Error(codes.Aborted, "told"), codes.Aborted, "told"},
		{"wrapped status", t.Context(), fmt.Errorf("secret: %w", status.Error(codes.Aborted, "told")), codes.Aborted, "told"},
		{"plain", t.Context(), errors.New("secret"), codes.Unknown, "unknown error"},
		{"plain after the end", ended, errors.New("secret"), codes.Canceled, "context canceled"},
		{"bare deadline of a wrapper", t.Context(), fmt.Errorf("secret: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "context deadline exceeded"},
		{"status of OK", t.Context(), okError{}, codes.Internal, "internal error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := statusOf(tc.ctx, tc.err); got.Code() != tc.want || got.Message() != tc.text {
				t.Errorf("got %v, want %v %q", got, tc.want, tc.text)
			}
		})
	}
	if got := statusOf(ended, nil); got != nil {
		t.Errorf("no error gives %v", got)
	}
}

type okError struct{}

func (okError) Error() string              { return "secret" }
func (okError) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

func TestPartialFailureCodes(t *testing.T) {
	for c, want := range map[codes.Code]*bffv1.PartialFailure{
		codes.Canceled:           partial("x", "CANCELLED", false),
		codes.Unknown:            partial("x", "UNKNOWN", false),
		codes.InvalidArgument:    partial("x", "INVALID_ARGUMENT", false),
		codes.DeadlineExceeded:   partial("x", "DEADLINE_EXCEEDED", true),
		codes.NotFound:           partial("x", "NOT_FOUND", false),
		codes.AlreadyExists:      partial("x", "ALREADY_EXISTS", false),
		codes.PermissionDenied:   partial("x", "PERMISSION_DENIED", false),
		codes.ResourceExhausted:  partial("x", "RESOURCE_EXHAUSTED", true),
		codes.FailedPrecondition: partial("x", "FAILED_PRECONDITION", false),
		codes.Aborted:            partial("x", "ABORTED", true),
		codes.OutOfRange:         partial("x", "OUT_OF_RANGE", false),
		codes.Unimplemented:      partial("x", "UNIMPLEMENTED", false),
		codes.Internal:           partial("x", "INTERNAL", false),
		codes.Unavailable:        partial("x", "UNAVAILABLE", true),
		codes.DataLoss:           partial("x", "DATA_LOSS", false),
		codes.Unauthenticated:    partial("x", "UNAUTHENTICATED", false),
		codes.Code(4711):         partial("x", "UNKNOWN", false),
	} {
		got := partialFailure("x", status.New(c, ""))
		if got.GetCode() != want.GetCode() || got.GetRetryable() != want.GetRetryable() || got.GetBranch() != "x" {
			t.Errorf("%v: %v, want %v", c, got, want)
		}
	}
}

// The name of a branch is the field that it fills, so that a client can look it
// up: every optional branch of every composite is failed, and its name checked.
func TestBranchesAreFields(t *testing.T) {
	down := healthy().with(map[string]behaviour{getProfile: failsWith(codes.Unavailable), listOrders: failsWith(codes.Unavailable)})
	overview, err := newServer(t, down, nil).GetUserOverview(t.Context(), &bffv1.GetUserOverviewRequest{UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	down = healthy().with(map[string]behaviour{getProfile: failsWith(codes.Unavailable), getUser: failsWith(codes.Unavailable)})
	details, err := newServer(t, down, nil).GetOrderDetails(t.Context(), &bffv1.GetOrderDetailsRequest{OrderId: "o1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range []interface {
		ProtoReflect() protoreflect.Message
		GetPartial() []*bffv1.PartialFailure
	}{overview, details} {
		if len(answer.GetPartial()) != 2 {
			t.Errorf("%v: want two entries", answer)
		}
		for _, p := range answer.GetPartial() {
			if answer.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(p.GetBranch())) == nil {
				t.Errorf("branch %q is no field of %s", p.GetBranch(), answer.ProtoReflect().Descriptor().FullName())
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	b := healthy()
	for want, o := range map[string]Options{
		"Users":          {Orders: b, Profiles: b},
		"Orders":         {Users: b, Profiles: b},
		"Profiles":       {Users: b, Orders: b},
		"BranchTimeout":  {Users: b, Orders: b, Profiles: b, BranchTimeout: -1},
		"MaxConcurrency": {Users: b, Orders: b, Profiles: b, MaxConcurrency: -1},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that names %s", err, want)
		}
	}
}
