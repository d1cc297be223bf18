package gateway_test

import (
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// call is one step of the scenario: the same call as a REST client and as a
// gRPC client would make it, and what both must see.
type call struct {
	name string
	// as is `subject: scopes`; empty is anonymous, `!` a token that is not ours.
	as string

	verb, path, body string
	header           [2]string // one REST header

	rpc string // Service/Method, without the package
	req proto.Message

	want   codes.Code
	status int // HTTP status; 0 means the code's own
	// shows are parts of the answer that must be there, on both edges.
	shows []string
	// location is the Location header over REST.
	location string
}

const (
	ada   = "ada: users.read users.write orders.read orders.write profiles.write"
	grace = "grace: users.read users.write orders.read orders.write profiles.write"
	admin = "root: admin"
)

func eur(units int64, nanos int32) *typev1.Money {
	return &typev1.Money{CurrencyCode: "EUR", Units: units, Nanos: nanos}
}

func lines(l ...*orderv1.OrderLine) *orderv1.Order { return &orderv1.Order{Lines: l} }

func tea(n int32) *orderv1.OrderLine {
	return &orderv1.OrderLine{Sku: "tea-1", Title: "Tea", Quantity: n, Price: eur(3, 500000000)}
}

const teaJSON = `{"sku":"tea-1","title":"Tea","quantity":2,"price":{"currencyCode":"EUR","units":"3","nanos":500000000}}`

// png is the smallest PNG: one grey pixel.
const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"

// scenario touches every RPC of the shop and every error a caller can cause.
// The steps run in order, on a shop with the demo data.
func scenario() []call {
	var all []call
	for _, part := range [][]call{userCalls(), orderCalls(), profileCalls(), compositeCalls(), identityCalls()} {
		all = append(all, part...)
	}
	return all
}

func userCalls() []call {
	return []call{
		{name: "get own user", as: ada, verb: "GET", path: "/v1/users/ada", rpc: "user.v1.UserService/GetUser", req: &userv1.GetUserRequest{UserId: "ada"},
			shows: []string{`"userId":"ada"`, `"displayName":"Ada Lovelace"`}},
		{name: "get another's user", as: grace, verb: "GET", path: "/v1/users/ada", rpc: "user.v1.UserService/GetUser", req: &userv1.GetUserRequest{UserId: "ada"}, want: codes.PermissionDenied, shows: []string{"NOT_OWNER"}},
		{name: "admin gets any user", as: admin, verb: "GET", path: "/v1/users/ada", rpc: "user.v1.UserService/GetUser", req: &userv1.GetUserRequest{UserId: "ada"}},
		{name: "get a user that is not there", as: admin, verb: "GET", path: "/v1/users/nobody", rpc: "user.v1.UserService/GetUser", req: &userv1.GetUserRequest{UserId: "nobody"}, want: codes.NotFound},
		{name: "get a user with an id that cannot be", as: admin, verb: "GET", path: "/v1/users/No%20body", rpc: "user.v1.UserService/GetUser", req: &userv1.GetUserRequest{UserId: "No body"}, want: codes.InvalidArgument, shows: []string{`"field":"user_id"`}},
		{name: "create a user", as: admin, verb: "POST", path: "/v1/users?user_id=mary", body: `{"email":"mary@example.com","displayName":"Mary"}`, rpc: "user.v1.UserService/CreateUser",
			req: &userv1.CreateUserRequest{UserId: "mary", User: &userv1.User{Email: "mary@example.com", DisplayName: "Mary"}}, status: 201, location: "/v1/users/mary", shows: []string{`"userId":"mary"`}},
		{name: "create a user with an id of the service's", as: admin, verb: "POST", path: "/v1/users", body: `{"email":"karen@example.com"}`, rpc: "user.v1.UserService/CreateUser",
			req: &userv1.CreateUserRequest{User: &userv1.User{Email: "karen@example.com"}}, status: 201, location: "/v1/users/*"},
		{name: "create a user with an e-mail that is taken", as: admin, verb: "POST", path: "/v1/users", body: `{"email":"MARY@example.com"}`, rpc: "user.v1.UserService/CreateUser",
			req: &userv1.CreateUserRequest{User: &userv1.User{Email: "MARY@example.com"}}, want: codes.AlreadyExists},
		{name: "create a user with an id that is taken", as: admin, verb: "POST", path: "/v1/users?userId=mary", body: `{"email":"mary2@example.com"}`, rpc: "user.v1.UserService/CreateUser",
			req: &userv1.CreateUserRequest{UserId: "mary", User: &userv1.User{Email: "mary2@example.com"}}, want: codes.AlreadyExists},
		{name: "create a user without an e-mail", as: admin, verb: "POST", path: "/v1/users", body: `{"displayName":"No"}`, rpc: "user.v1.UserService/CreateUser",
			req: &userv1.CreateUserRequest{User: &userv1.User{DisplayName: "No"}}, want: codes.InvalidArgument, shows: []string{`"field":"user.email"`}},
		{name: "create a user with an e-mail that is none", as: admin, verb: "POST", path: "/v1/users", body: `{"email":"no"}`, rpc: "user.v1.UserService/CreateUser",
			req: &userv1.CreateUserRequest{User: &userv1.User{Email: "no"}}, want: codes.InvalidArgument, shows: []string{`"field":"user.email"`}},
		{name: "create a user without the scope", as: "ada: users.read", verb: "POST", path: "/v1/users", body: `{"email":"x@example.com"}`, rpc: "user.v1.UserService/CreateUser",
			req: &userv1.CreateUserRequest{User: &userv1.User{Email: "x@example.com"}}, want: codes.PermissionDenied, shows: []string{"SCOPE_MISSING"}},
		{name: "list users", as: admin, verb: "GET", path: "/v1/users?page_size=2", rpc: "user.v1.UserService/ListUsers", req: &userv1.ListUsersRequest{PageSize: 2}, shows: []string{`"users":[{`}},
		{name: "list users by a filter", as: admin, verb: "GET", path: "/v1/users?filter=mary", rpc: "user.v1.UserService/ListUsers", req: &userv1.ListUsersRequest{Filter: "mary"}, shows: []string{`"userId":"mary"`, `"nextPageToken":""`}},
		{name: "list users with a token that is none", as: admin, verb: "GET", path: "/v1/users?page_token=garbage", rpc: "user.v1.UserService/ListUsers", req: &userv1.ListUsersRequest{PageToken: "garbage"}, want: codes.InvalidArgument, shows: []string{`"field":"page_token"`}},
		{name: "list users with too large a page", as: admin, verb: "GET", path: "/v1/users?pageSize=101", rpc: "user.v1.UserService/ListUsers", req: &userv1.ListUsersRequest{PageSize: 101}, want: codes.InvalidArgument, shows: []string{`"field":"page_size"`}},
		{name: "list users is the admin's", as: ada, verb: "GET", path: "/v1/users", rpc: "user.v1.UserService/ListUsers", req: &userv1.ListUsersRequest{}, want: codes.PermissionDenied},
		{name: "update a user", as: ada, verb: "PATCH", path: "/v1/users/ada", body: `{"displayName":"Ada King","phone":"+441632960000"}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "Ada King", Phone: proto.String("+441632960000")}, UpdateMask: mask("display_name", "phone")}, shows: []string{`"phone":"+441632960000"`}},
		{name: "clear a field with null", as: ada, verb: "PATCH", path: "/v1/users/ada", body: `{"phone":null}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada"}, UpdateMask: mask("phone")}, shows: []string{`"displayName":"Ada King"`}},
		{name: "update nothing", as: ada, verb: "PATCH", path: "/v1/users/ada", body: `{}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada"}, UpdateMask: mask("")}, shows: []string{`"displayName":"Ada King"`}},
		{name: "update with a stale etag", as: ada, verb: "PATCH", path: "/v1/users/ada?update_mask=displayName", body: `{"displayName":"x","etag":"stale"}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "x", Etag: "stale"}, UpdateMask: mask("display_name")}, want: codes.Aborted},
		{name: "update with a stale etag, the mask from the body", as: ada, verb: "PATCH", path: "/v1/users/ada", body: `{"displayName":"x","etag":"stale"}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "x", Etag: "stale"}, UpdateMask: mask("display_name", "etag")}, want: codes.Aborted},
		{name: "send back what was read", as: ada, verb: "PATCH", path: "/v1/users/ada", body: `{"userId":"ada","displayName":"Ada King","createTime":"2020-01-01T00:00:00Z"}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "Ada King"}, UpdateMask: mask("user_id", "display_name", "create_time")}},
		{name: "update a field that there is not", as: ada, verb: "PATCH", path: "/v1/users/ada?update_mask=nope", body: `{"displayName":"x"}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "x"}, UpdateMask: mask("nope")}, want: codes.InvalidArgument, shows: []string{`"field":"update_mask"`}},
		{name: "update another's user", as: grace, verb: "PATCH", path: "/v1/users/ada", body: `{"displayName":"x"}`, rpc: "user.v1.UserService/UpdateUser",
			req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "x"}, UpdateMask: mask("display_name")}, want: codes.PermissionDenied},
		{name: "batch get", as: admin, verb: "GET", path: "/v1/users:batchGet?user_ids=grace&user_ids=ada", rpc: "user.v1.UserService/BatchGetUsers", req: &userv1.BatchGetUsersRequest{UserIds: []string{"grace", "ada"}}},
		{name: "batch get of one that is not there", as: admin, verb: "GET", path: "/v1/users:batchGet?user_ids=ada&user_ids=nobody", rpc: "user.v1.UserService/BatchGetUsers", req: &userv1.BatchGetUsersRequest{UserIds: []string{"ada", "nobody"}}, want: codes.NotFound},
		{name: "batch get of none", as: admin, verb: "GET", path: "/v1/users:batchGet", rpc: "user.v1.UserService/BatchGetUsers", req: &userv1.BatchGetUsersRequest{}, want: codes.InvalidArgument, shows: []string{`"field":"user_ids"`}},
		{name: "delete a user", as: admin, verb: "DELETE", path: "/v1/users/mary", rpc: "user.v1.UserService/DeleteUser", req: &userv1.DeleteUserRequest{UserId: "mary"}, status: 204},
		{name: "delete a user that is gone", as: admin, verb: "DELETE", path: "/v1/users/mary", rpc: "user.v1.UserService/DeleteUser", req: &userv1.DeleteUserRequest{UserId: "mary"}, want: codes.NotFound},
		{name: "delete is the admin's", as: ada, verb: "DELETE", path: "/v1/users/ada", rpc: "user.v1.UserService/DeleteUser", req: &userv1.DeleteUserRequest{UserId: "ada"}, want: codes.PermissionDenied},
	}
}

func orderCalls() []call {
	return []call{
		{name: "place an order", as: ada, verb: "POST", path: "/v1/users/ada/orders", body: `{"lines":[` + teaJSON + `]}`, rpc: "order.v1.OrderService/CreateOrder",
			req: &orderv1.CreateOrderRequest{UserId: "ada", Order: lines(tea(2))}, status: 201, location: "/v1/orders/*", shows: []string{`"total":{"currencyCode":"EUR","units":"7","nanos":0}`, `"state":"ORDER_STATE_PLACED"`}},
		{name: "place an order with a key", as: ada, verb: "POST", path: "/v1/users/ada/orders", body: `{"lines":[` + teaJSON + `]}`, header: [2]string{"Idempotency-Key", "k-1"}, rpc: "order.v1.OrderService/CreateOrder",
			req: &orderv1.CreateOrderRequest{UserId: "ada", RequestId: "k-1", Order: lines(tea(2))}, status: 201, location: "/v1/orders/*"},
		{name: "place it again with the key", as: ada, verb: "POST", path: "/v1/users/ada/orders?request_id=k-1", body: `{"lines":[` + teaJSON + `]}`, rpc: "order.v1.OrderService/CreateOrder",
			req: &orderv1.CreateOrderRequest{UserId: "ada", RequestId: "k-1", Order: lines(tea(2))}, status: 201, location: "/v1/orders/*", shows: []string{"idempotency-replayed: true"}},
		{name: "another order with the same key", as: ada, verb: "POST", path: "/v1/users/ada/orders?request_id=k-1", body: `{"note":"two","lines":[` + teaJSON + `]}`, rpc: "order.v1.OrderService/CreateOrder",
			req: &orderv1.CreateOrderRequest{UserId: "ada", RequestId: "k-1", Order: &orderv1.Order{Note: "two", Lines: []*orderv1.OrderLine{tea(2)}}}, want: codes.Aborted, shows: []string{"IDEMPOTENCY_KEY_REUSED"}},
		{name: "place an order without lines", as: ada, verb: "POST", path: "/v1/users/ada/orders", body: `{"lines":[]}`, rpc: "order.v1.OrderService/CreateOrder",
			req: &orderv1.CreateOrderRequest{UserId: "ada", Order: lines()}, want: codes.InvalidArgument, shows: []string{`"field":"order.lines"`}},
		{name: "place an order in two currencies", as: ada, verb: "POST", path: "/v1/users/ada/orders", body: `{"lines":[` + teaJSON + `,{"sku":"b","quantity":1,"price":{"currencyCode":"USD","units":1}}]}`, rpc: "order.v1.OrderService/CreateOrder",
			req:  &orderv1.CreateOrderRequest{UserId: "ada", Order: lines(tea(2), &orderv1.OrderLine{Sku: "b", Quantity: 1, Price: &typev1.Money{CurrencyCode: "USD", Units: 1}})},
			want: codes.InvalidArgument, shows: []string{`order.lines[1].price`}},
		{name: "place an order whose total overflows", as: ada, verb: "POST", path: "/v1/users/ada/orders", body: `{"lines":[{"sku":"b","quantity":2,"price":{"currencyCode":"EUR","units":"9223372036854775807"}}]}`, rpc: "order.v1.OrderService/CreateOrder",
			req:  &orderv1.CreateOrderRequest{UserId: "ada", Order: lines(&orderv1.OrderLine{Sku: "b", Quantity: 2, Price: eur(9223372036854775807, 0)})},
			want: codes.InvalidArgument},
		{name: "place an order for another", as: grace, verb: "POST", path: "/v1/users/ada/orders", body: `{"lines":[` + teaJSON + `]}`, rpc: "order.v1.OrderService/CreateOrder",
			req: &orderv1.CreateOrderRequest{UserId: "ada", Order: lines(tea(2))}, want: codes.PermissionDenied},
		{name: "get an order", as: ada, verb: "GET", path: "/v1/orders/ada-0001", rpc: "order.v1.OrderService/GetOrder", req: &orderv1.GetOrderRequest{OrderId: "ada-0001"}, shows: []string{`"orderId":"ada-0001"`}},
		{name: "get a stranger's order", as: grace, verb: "GET", path: "/v1/orders/ada-0001", rpc: "order.v1.OrderService/GetOrder", req: &orderv1.GetOrderRequest{OrderId: "ada-0001"}, want: codes.NotFound},
		{name: "get an order that is not there", as: ada, verb: "GET", path: "/v1/orders/none", rpc: "order.v1.OrderService/GetOrder", req: &orderv1.GetOrderRequest{OrderId: "none"}, want: codes.NotFound},
		{name: "list orders", as: ada, verb: "GET", path: "/v1/users/ada/orders?page_size=3", rpc: "order.v1.OrderService/ListOrders", req: &orderv1.ListOrdersRequest{UserId: "ada", PageSize: 3}, shows: []string{`"orders":[{`}},
		{name: "list another's orders", as: grace, verb: "GET", path: "/v1/users/ada/orders", rpc: "order.v1.OrderService/ListOrders", req: &orderv1.ListOrdersRequest{UserId: "ada"}, want: codes.PermissionDenied},
		{name: "admin pays a new order", as: admin, rpc: "order.v1.OrderService/AdvanceOrder", req: &orderv1.AdvanceOrderRequest{OrderId: "placed", State: orderv1.OrderState_ORDER_STATE_PAID}, shows: []string{`"state":"ORDER_STATE_PAID"`}},
		{name: "an order does not skip a state", as: admin, rpc: "order.v1.OrderService/AdvanceOrder", req: &orderv1.AdvanceOrderRequest{OrderId: "placed", State: orderv1.OrderState_ORDER_STATE_DELIVERED}, want: codes.FailedPrecondition},
		{name: "advancing is the admin's", as: ada, rpc: "order.v1.OrderService/AdvanceOrder", req: &orderv1.AdvanceOrderRequest{OrderId: "placed", State: orderv1.OrderState_ORDER_STATE_SHIPPED}, want: codes.PermissionDenied},
		{name: "cancel a stranger's order", as: grace, verb: "POST", path: "/v1/orders/placed:cancel", body: `{}`, rpc: "order.v1.OrderService/CancelOrder", req: &orderv1.CancelOrderRequest{OrderId: "placed"}, want: codes.NotFound},
		{name: "cancel with a stale etag", as: ada, verb: "POST", path: "/v1/orders/placed:cancel", body: `{"etag":"stale"}`, rpc: "order.v1.OrderService/CancelOrder", req: &orderv1.CancelOrderRequest{OrderId: "placed", Etag: "stale"}, want: codes.Aborted},
		{name: "cancel an order", as: ada, verb: "POST", path: "/v1/orders/placed:cancel", rpc: "order.v1.OrderService/CancelOrder", req: &orderv1.CancelOrderRequest{OrderId: "placed"}, shows: []string{`"state":"ORDER_STATE_CANCELLED"`}},
		{name: "cancel it again", as: ada, verb: "POST", path: "/v1/orders/placed:cancel", body: `{}`, rpc: "order.v1.OrderService/CancelOrder", req: &orderv1.CancelOrderRequest{OrderId: "placed"}, shows: []string{`"state":"ORDER_STATE_CANCELLED"`}},
		{name: "pay a cancelled order", as: admin, rpc: "order.v1.OrderService/AdvanceOrder", req: &orderv1.AdvanceOrderRequest{OrderId: "placed", State: orderv1.OrderState_ORDER_STATE_PAID}, want: codes.FailedPrecondition},
		{name: "watch an order that has ended", as: ada, verb: "GET", path: "/v1/orders/placed:watch", rpc: "order.v1.OrderService/WatchOrder", req: &orderv1.WatchOrderRequest{OrderId: "placed"}, shows: []string{`"state":"ORDER_STATE_CANCELLED"`}},
		{name: "watch a stranger's order", as: grace, verb: "GET", path: "/v1/orders/placed:watch", rpc: "order.v1.OrderService/WatchOrder", req: &orderv1.WatchOrderRequest{OrderId: "placed"}, want: codes.NotFound},
		{name: "watch an order with an id that cannot be", as: ada, verb: "GET", path: "/v1/orders/No!:watch", rpc: "order.v1.OrderService/WatchOrder", req: &orderv1.WatchOrderRequest{OrderId: "No!"}, want: codes.InvalidArgument, shows: []string{`"field":"order_id"`}},
	}
}

func profileCalls() []call {
	return []call{
		{name: "get a profile", verb: "GET", path: "/v1/users/ada/profile", rpc: "profile.v1.ProfileService/GetProfile", req: &profilev1.GetProfileRequest{UserId: "ada"}, shows: []string{`"userId":"ada"`}},
		{name: "get a profile that is not there", verb: "GET", path: "/v1/users/nobody/profile", rpc: "profile.v1.ProfileService/GetProfile", req: &profilev1.GetProfileRequest{UserId: "nobody"}, want: codes.NotFound},
		{name: "update a profile", as: ada, verb: "PATCH", path: "/v1/users/ada/profile", body: `{"bio":"Notes","languages":["en","fr"],"links":{"a":"https://example.com/a"}}`, rpc: "profile.v1.ProfileService/UpdateProfile",
			req:   &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Bio: "Notes", Languages: []string{"en", "fr"}, Links: map[string]string{"a": "https://example.com/a"}}, UpdateMask: mask("bio", "languages", "links")},
			shows: []string{`"bio":"Notes"`, `"links":{"a":"https://example.com/a"}`}},
		{name: "clear a profile's list", as: ada, verb: "PATCH", path: "/v1/users/ada/profile", body: `{"languages":null}`, rpc: "profile.v1.ProfileService/UpdateProfile",
			req: &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada"}, UpdateMask: mask("languages")}, shows: []string{`"languages":[]`, `"bio":"Notes"`}},
		{name: "update a profile with a bad website", as: ada, verb: "PATCH", path: "/v1/users/ada/profile", body: `{"website":"javascript:alert(1)"}`, rpc: "profile.v1.ProfileService/UpdateProfile",
			req: &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Website: "javascript:alert(1)"}, UpdateMask: mask("website")}, want: codes.InvalidArgument, shows: []string{`"field":"profile.website"`}},
		{name: "update another's profile", as: grace, verb: "PATCH", path: "/v1/users/ada/profile", body: `{"bio":"x"}`, rpc: "profile.v1.ProfileService/UpdateProfile",
			req: &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Bio: "x"}, UpdateMask: mask("bio")}, want: codes.PermissionDenied},
		{name: "upload an avatar", as: ada, verb: "PUT", path: "/v1/users/ada/profile/avatar", body: png, header: [2]string{"Content-Type", "image/png"}, rpc: "profile.v1.ProfileService/UploadAvatar",
			req: &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "image/png", Data: []byte(png)}}, shows: []string{`"hasAvatar":true`}},
		{name: "get the avatar", verb: "GET", path: "/v1/users/ada/profile/avatar", rpc: "profile.v1.ProfileService/GetAvatar", req: &profilev1.GetAvatarRequest{UserId: "ada"}, shows: []string{"image/png"}},
		{name: "upload what is no image", as: ada, verb: "PUT", path: "/v1/users/ada/profile/avatar", body: "<script>", header: [2]string{"Content-Type", "image/png"}, rpc: "profile.v1.ProfileService/UploadAvatar",
			req: &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "image/png", Data: []byte("<script>")}}, want: codes.InvalidArgument},
		{name: "get an avatar that is not there", verb: "GET", path: "/v1/users/alan/profile/avatar", rpc: "profile.v1.ProfileService/GetAvatar", req: &profilev1.GetAvatarRequest{UserId: "alan"}, want: codes.NotFound},
	}
}

func compositeCalls() []call {
	return []call{
		{name: "overview", as: ada, verb: "GET", path: "/v1/users/ada/overview?order_limit=2", rpc: "bff.v1.BffService/GetUserOverview", req: &bffv1.GetUserOverviewRequest{UserId: "ada", OrderLimit: 2},
			shows: []string{`"user":{"userId":"ada"`, `"profile":{"userId":"ada"`, `"recentOrders":[{`, `"partial":[]`}},
		{name: "overview of another", as: grace, verb: "GET", path: "/v1/users/ada/overview", rpc: "bff.v1.BffService/GetUserOverview", req: &bffv1.GetUserOverviewRequest{UserId: "ada"}, want: codes.PermissionDenied},
		{name: "overview of nobody", as: admin, verb: "GET", path: "/v1/users/nobody/overview", rpc: "bff.v1.BffService/GetUserOverview", req: &bffv1.GetUserOverviewRequest{UserId: "nobody"}, want: codes.NotFound},
		{name: "overview without a scope", as: "ada: users.read", verb: "GET", path: "/v1/users/ada/overview", rpc: "bff.v1.BffService/GetUserOverview", req: &bffv1.GetUserOverviewRequest{UserId: "ada"}, want: codes.PermissionDenied},
		{name: "overview with too many orders", as: ada, verb: "GET", path: "/v1/users/ada/overview?orderLimit=51", rpc: "bff.v1.BffService/GetUserOverview", req: &bffv1.GetUserOverviewRequest{UserId: "ada", OrderLimit: 51}, want: codes.InvalidArgument, shows: []string{`"field":"order_limit"`}},
		{name: "order details", as: ada, verb: "GET", path: "/v1/orders/ada-0001/details", rpc: "bff.v1.BffService/GetOrderDetails", req: &bffv1.GetOrderDetailsRequest{OrderId: "ada-0001"},
			shows: []string{`"order":{"orderId":"ada-0001"`, `"user":{"userId":"ada"`, `"profile":{"userId":"ada"`}},
		{name: "details of a stranger's order", as: grace, verb: "GET", path: "/v1/orders/ada-0001/details", rpc: "bff.v1.BffService/GetOrderDetails", req: &bffv1.GetOrderDetailsRequest{OrderId: "ada-0001"}, want: codes.NotFound},
	}
}

func identityCalls() []call {
	get := func(name, as string, want codes.Code, shows ...string) call {
		return call{name: name, as: as, verb: "GET", path: "/v1/users/ada", rpc: "user.v1.UserService/GetUser", req: &userv1.GetUserRequest{UserId: "ada"}, want: want, shows: shows}
	}
	return []call{
		get("no credential", "", codes.Unauthenticated),
		get("a token of another's key", "!", codes.Unauthenticated, "TOKEN_INVALID"),
		{name: "a bad token on a public method", as: "!", verb: "GET", path: "/v1/users/ada/profile", rpc: "profile.v1.ProfileService/GetProfile", req: &profilev1.GetProfileRequest{UserId: "ada"}, want: codes.Unauthenticated},
		get("a token without scopes", "ada:", codes.PermissionDenied),
	}
}

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }
