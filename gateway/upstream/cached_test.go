package upstream_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// told is a target that answers what it is told to, and counts.
type told struct {
	backend
	answer []byte
}

func (t *told) Invoke(_ context.Context, _ string, _, out any, _ ...grpc.CallOption) error {
	t.calls.Add(1)
	return wire.Cloner{}.Copy(out, &wire.Frame{Data: t.answer})
}

// TestWhatIsKept: whole answers are, what lacks a branch and what cannot be read are
// not; and what a caller does to its frame nobody else sees.
func TestWhatIsKept(t *testing.T) {
	whole, err := proto.Marshal(&bffv1.UserOverview{})
	if err != nil {
		t.Fatal(err)
	}
	partial, err := proto.Marshal(&bffv1.UserOverview{Partial: []*bffv1.PartialFailure{{Branch: "orders"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		answer []byte
		calls  int32
	}{"whole": {whole, 1}, "partial": {partial, 3}, "unreadable": {[]byte{0x0a, 0xff}, 3}} {
		t.Run(name, func(t *testing.T) {
			sd := bffv1.File_shop_bff_v1_bff_proto.Services().ByName("BffService")
			table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: policy.Defaults{Deadline: time.Second, MaxRequestBytes: 1 << 20}, Overrides: map[string]policy.Override{"shop.bff.v1.BffService/GetUserOverview": {Cache: &policyv1.Cache{
				Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: durationpb.New(time.Minute)}}}, Linked: protoregistry.GlobalTypes})
			if err != nil {
				t.Fatal(err)
			}
			c, err := cache.New(cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			service := &told{answer: test.answer}
			conn, err := upstream.New(upstream.Options{Catalogue: table, Targets: map[string]upstream.Target{"shop.bff.v1.BffService": service},
				Signer: signer{}, Logger: slog.New(slog.DiscardHandler), Observer: &observer{}, Cache: c})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				call := &policy.Call{Method: table.Method(getOverview).Method, Principal: policy.NewPrincipal("ada", "", nil, time.Time{})}
				ctx, err := policy.Chain{}.Admit(t.Context(), call)
				if err != nil {
					t.Fatal(err)
				}
				var out wire.Frame
				if err := conn.Invoke(ctx, getOverview, &wire.Frame{Data: []byte{}}, &out); err != nil || string(out.Data) != string(test.answer) {
					t.Errorf("%q %v", out.Data, err)
				}
				if (i > 0 && test.calls == 1) != (call.Cache == "hit") || (test.calls == 1) != (call.Kept != nil) {
					t.Errorf("%d: %s, kept %v", i, call.Cache, call.Kept)
				}
				_ = append(out.Data, "more"...)
				out.Free()
			}
			if n := service.calls.Load(); n != test.calls {
				t.Errorf("%d calls", n)
			}
		})
	}
}
