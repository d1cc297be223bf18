package transcode

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// Structs that encoding/json makes the same JSON of as plans do of messages.
type (
	twinMoney struct {
		CurrencyCode string `json:"currencyCode"`
		Units        int64  `json:"units,string"`
		Nanos        int32  `json:"nanos"`
	}
	twinLine struct {
		SKU      string     `json:"sku"`
		Title    string     `json:"title"`
		Quantity int32      `json:"quantity"`
		Price    *twinMoney `json:"price,omitempty"`
	}
	twinOrder struct {
		OrderID    string     `json:"orderId"`
		UserID     string     `json:"userId"`
		Lines      []twinLine `json:"lines"`
		Total      *twinMoney `json:"total,omitempty"`
		State      string     `json:"state"`
		CreateTime string     `json:"createTime,omitempty"`
		UpdateTime string     `json:"updateTime,omitempty"`
		Etag       string     `json:"etag"`
		Note       string     `json:"note"`
	}
	twinPage struct {
		Orders        []twinOrder `json:"orders"`
		NextPageToken string      `json:"nextPageToken"`
	}
	twinUser struct {
		UserID      string `json:"userId"`
		Email       string `json:"email"`
		DisplayName string `json:"displayName"`
		Phone       string `json:"phone,omitempty"`
		CreateTime  string `json:"createTime"`
		UpdateTime  string `json:"updateTime"`
		Etag        string `json:"etag"`
	}
	twinInner struct {
		Owner  string   `json:"owner"`
		Number int32    `json:"number"`
		Tags   []string `json:"tags"`
	}
)

func twins(m proto.Message) (any, bool) {
	switch m := m.(type) {
	case *userv1.User:
		return &twinUser{
			UserID: m.GetUserId(), Email: m.GetEmail(), DisplayName: m.GetDisplayName(), Phone: m.GetPhone(),
			CreateTime: twinTime(m.GetCreateTime()), UpdateTime: twinTime(m.GetUpdateTime()), Etag: m.GetEtag(),
		}, true
	case *orderv1.ListOrdersResponse:
		p := &twinPage{NextPageToken: m.GetNextPageToken()}
		for _, o := range m.GetOrders() {
			p.Orders = append(p.Orders, twinOrderOf(o))
		}
		return p, true
	case *testv1.Inner:
		return &twinInner{Owner: m.GetOwner(), Number: m.GetNumber(), Tags: m.GetTags()}, true
	}
	return nil, false
}

func twinOrderOf(o *orderv1.Order) twinOrder {
	t := twinOrder{
		OrderID: o.GetOrderId(), UserID: o.GetUserId(), Total: twinMoneyOf(o.GetTotal()), State: o.GetState().String(),
		CreateTime: twinTime(o.GetCreateTime()), UpdateTime: twinTime(o.GetUpdateTime()), Etag: o.GetEtag(), Note: o.GetNote(),
	}
	for _, l := range o.GetLines() {
		t.Lines = append(t.Lines, twinLine{SKU: l.GetSku(), Title: l.GetTitle(), Quantity: l.GetQuantity(), Price: twinMoneyOf(l.GetPrice())})
	}
	return t
}

func twinMoneyOf(m *typev1.Money) *twinMoney {
	return &twinMoney{CurrencyCode: m.GetCurrencyCode(), Units: m.GetUnits(), Nanos: m.GetNanos()}
}

func twinTime(t *timestamppb.Timestamp) string {
	return t.AsTime().Format("2006-01-02T15:04:05") + fmt.Sprintf(".%03dZ", t.GetNanos()/1e6)
}
