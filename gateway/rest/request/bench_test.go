package request_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

var benched = map[string]struct {
	in                proto.Message
	pattern, body     string
	path, query, sent string
	most              float64 // allocations
}{
	"get":   {&userv1.GetUserRequest{}, "GET /v1/users/{user_id}", "", "/v1/users/ada", "", "", 0},
	"list":  {&userv1.ListUsersRequest{}, "GET /v1/users", "", "/v1/users", "page_size=20&pageToken=abc", "", 0},
	"post":  {&orderv1.CreateOrderRequest{}, "POST /v1/users/{user_id}/orders", "order", "/v1/users/ada/orders", "requestId=r1", `{"lines":[{"sku":"tea-1","quantity":2}],"note":"x"}`, 0},
	"patch": {&userv1.UpdateUserRequest{}, "PATCH /v1/users/{user.user_id}", "user", "/v1/users/ada", "", `{"displayName":"Ada","email":"a@b.example"}`, 2},
}

func BenchmarkAppend(b *testing.B) {
	for name, tc := range benched {
		b.Run(name, func(b *testing.B) {
			s := serve(b, tc.in, tc.pattern, tc.body, request.Options{})
			in, err := s.parts(tc.path, tc.query, tc.sent)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Append(buf, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
