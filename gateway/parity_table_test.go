package gateway_test

import (
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// parity is one row of the table: a call of an RPC that succeeds, on a shop
// with the demo data, for the subject with the scopes.
type parity struct {
	rpc string
	// verb is empty for a method without a route.
	verb, path, body, contentType string
	req                           proto.Message
	subject, scopes               string
	public                        bool
	// stranger is what a caller with the scopes gets who is not the owner; OK
	// means that nobody owns it.
	stranger codes.Code
	stream   bool
}

const (
	users, orders, profiles, composites = "shop.user.v1.UserService/", "shop.order.v1.OrderService/", "shop.profile.v1.ProfileService/", "shop.bff.v1.BffService/"
)

// parityTable has a row for every RPC of the shop: TestParityIsComplete fails
// when one is missing.
var parityTable = []parity{
	{rpc: users + "CreateUser", verb: "POST", path: "/v1/users?user_id=mary", body: `{"email":"mary@example.com"}`,
		req: &userv1.CreateUserRequest{UserId: "mary", User: &userv1.User{Email: "mary@example.com"}}, subject: "ada", scopes: "users.write"},
	{rpc: users + "GetUser", verb: "GET", path: "/v1/users/ada", req: &userv1.GetUserRequest{UserId: "ada"}, subject: "ada", scopes: "users.read", stranger: codes.PermissionDenied},
	{rpc: users + "ListUsers", verb: "GET", path: "/v1/users", req: &userv1.ListUsersRequest{}, subject: "root", scopes: "admin"},
	{rpc: users + "UpdateUser", verb: "PATCH", path: "/v1/users/ada", body: `{"displayName":"Ada"}`,
		req: &userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", DisplayName: "Ada"}, UpdateMask: mask("display_name")}, subject: "ada", scopes: "users.write", stranger: codes.PermissionDenied},
	{rpc: users + "DeleteUser", verb: "DELETE", path: "/v1/users/alan", req: &userv1.DeleteUserRequest{UserId: "alan"}, subject: "root", scopes: "admin"},
	{rpc: users + "BatchGetUsers", verb: "GET", path: "/v1/users:batchGet?user_ids=ada", req: &userv1.BatchGetUsersRequest{UserIds: []string{"ada"}}, subject: "root", scopes: "admin"},

	{rpc: orders + "CreateOrder", verb: "POST", path: "/v1/users/ada/orders", body: `{"lines":[` + teaJSON + `]}`,
		req: &orderv1.CreateOrderRequest{UserId: "ada", Order: lines(tea(2))}, subject: "ada", scopes: "orders.write", stranger: codes.PermissionDenied},
	{rpc: orders + "GetOrder", verb: "GET", path: "/v1/orders/ada-0001", req: &orderv1.GetOrderRequest{OrderId: "ada-0001"}, subject: "ada", scopes: "orders.read", stranger: codes.NotFound},
	{rpc: orders + "ListOrders", verb: "GET", path: "/v1/users/ada/orders", req: &orderv1.ListOrdersRequest{UserId: "ada"}, subject: "ada", scopes: "orders.read", stranger: codes.PermissionDenied},
	{rpc: orders + "CancelOrder", verb: "POST", path: "/v1/orders/ada-0012:cancel", body: `{}`, req: &orderv1.CancelOrderRequest{OrderId: "ada-0012"}, subject: "ada", scopes: "orders.write", stranger: codes.NotFound},
	{rpc: orders + "WatchOrder", verb: "GET", path: "/v1/orders/ada-0001:watch", req: &orderv1.WatchOrderRequest{OrderId: "ada-0001"}, subject: "ada", scopes: "orders.read", stranger: codes.NotFound, stream: true},
	{rpc: orders + "AdvanceOrder", req: &orderv1.AdvanceOrderRequest{OrderId: "grace-0003", State: orderv1.OrderState_ORDER_STATE_PAID}, subject: "root", scopes: "admin"},

	{rpc: profiles + "GetProfile", verb: "GET", path: "/v1/users/ada/profile", req: &profilev1.GetProfileRequest{UserId: "ada"}, subject: "ada", scopes: "any", public: true},
	{rpc: profiles + "UpdateProfile", verb: "PATCH", path: "/v1/users/ada/profile", body: `{"bio":"Notes"}`,
		req: &profilev1.UpdateProfileRequest{Profile: &profilev1.Profile{UserId: "ada", Bio: "Notes"}, UpdateMask: mask("bio")}, subject: "ada", scopes: "profiles.write", stranger: codes.PermissionDenied},
	{rpc: profiles + "UploadAvatar", verb: "PUT", path: "/v1/users/ada/profile/avatar", body: png, contentType: "image/png",
		req: &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "image/png", Data: []byte(png)}}, subject: "ada", scopes: "profiles.write", stranger: codes.PermissionDenied},
	{rpc: profiles + "GetAvatar", verb: "GET", path: "/v1/users/ada/profile/avatar", req: &profilev1.GetAvatarRequest{UserId: "ada"}, subject: "ada", scopes: "any", public: true},

	{rpc: composites + "GetUserOverview", verb: "GET", path: "/v1/users/ada/overview", req: &bffv1.GetUserOverviewRequest{UserId: "ada"}, subject: "ada", scopes: "users.read orders.read", stranger: codes.PermissionDenied},
	{rpc: composites + "GetOrderDetails", verb: "GET", path: "/v1/orders/ada-0001/details", req: &bffv1.GetOrderDetailsRequest{OrderId: "ada-0001"}, subject: "ada", scopes: "users.read orders.read", stranger: codes.NotFound},
}
