// Command floor is what HTTP over gRPC cannot cost less than with net/http and
// grpc-go: requests are written by hand, answers passed on as the protobuf bytes
// they are. No JSON, no policy, no routes. Nobody would run it: the benchmark
// shows with it what a gateway's own work can be at most.
package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/tools/bench/peer"
	"github.com/sluice-gateway/sluice/tools/bench/raw"
)

func main() { peer.Main("floor", build) }

func build(backend string) (peer.Server, error) {
	conn, err := peer.Dial(backend, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw.Codec{})))
	if err != nil {
		return nil, err
	}
	return peer.HTTP(floor{conn: conn}), nil
}

type floor struct{ conn grpc.ClientConnInterface }

const overviewOrders = 10

func (f floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/users/"), "/")
	var (
		answer mem.BufferSlice
		err    error
	)
	switch {
	case what == "":
		answer, err = f.call(r.Context(), userv1.UserService_GetUser_FullMethodName, userRequest(user))
	case what == "orders" && r.Method == http.MethodPost:
		answer, err = f.create(r)
	case what == "orders":
		var n uint64
		if n, err = strconv.ParseUint(strings.TrimPrefix(r.URL.RawQuery, "page_size="), 10, 31); err == nil {
			answer, err = f.call(r.Context(), orderv1.OrderService_ListOrders_FullMethodName, listRequest(user, n))
		}
	case what == "overview":
		answer, err = f.overview(r.Context(), user)
	default:
		err = errors.New("the floor has no such path")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Free()
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Header().Set("Content-Length", strconv.Itoa(answer.Len()))
	for _, b := range answer {
		if _, err := w.Write(b.ReadOnlyData()); err != nil {
			return
		}
	}
}

func (f floor) call(ctx context.Context, method string, request []byte) (mem.BufferSlice, error) {
	var answer raw.Message
	err := f.conn.Invoke(ctx, method, raw.New(request), &answer)
	return answer.Data, err
}

// create passes on a body that is the protobuf request already.
func (f floor) create(r *http.Request) (mem.BufferSlice, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return f.call(r.Context(), orderv1.OrderService_CreateOrder_FullMethodName, body)
}

// overview joins its branches' bytes: a message is a tag, a length and itself.
func (f floor) overview(ctx context.Context, user string) (mem.BufferSlice, error) {
	var parts [3][]byte
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range []struct {
		method  string
		request []byte
		into    func([]byte) ([]byte, error)
	}{
		{userv1.UserService_GetUser_FullMethodName, userRequest(user), field(1)},
		{profilev1.ProfileService_GetProfile_FullMethodName, userRequest(user), field(2)},
		{orderv1.OrderService_ListOrders_FullMethodName, listRequest(user, overviewOrders), retag},
	} {
		group.Go(func() error {
			answer, err := f.call(ctx, c.method, c.request)
			if err != nil {
				return err
			}
			defer answer.Free()
			parts[i], err = c.into(answer.Materialize())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(parts[0]), mem.SliceBuffer(parts[1]), mem.SliceBuffer(parts[2])}, nil
}

// field wraps a message as field n of another.
func field(n protowire.Number) func([]byte) ([]byte, error) {
	return func(m []byte) ([]byte, error) {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), m), nil
	}
}

// retag makes the orders of a list (field 1) those of an overview (field 3), and
// leaves out the rest.
func retag(list []byte) ([]byte, error) {
	out := make([]byte, 0, len(list))
	for len(list) > 0 {
		num, typ, n := protowire.ConsumeField(list)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		if num == 1 && typ == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(list)
			out = append(protowire.AppendTag(out, 3, protowire.BytesType), list[tag:n]...)
		}
		list = list[n:]
	}
	return out, nil
}

func userRequest(user string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), user)
}

func listRequest(user string, size uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(userRequest(user), 2, protowire.VarintType), size)
}
