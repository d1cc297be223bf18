package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
)

// path is a path that is measured, and a check that its answer is whole.
type path struct {
	path string
	want func(answer map[string]any) bool
}

var paths = []path{
	{"/v1/users/ada", func(a map[string]any) bool { return a["userId"] == "ada" }},
	{"/v1/users/ada/orders?page_size=20", func(a map[string]any) bool { return length(a["orders"]) == 20 }},
	{"/v1/users/ada/overview", func(a map[string]any) bool {
		return a["user"] != nil && a["profile"] != nil && length(a["recentOrders"]) == 10 && length(a["partial"]) == 0
	}},
}

func length(v any) int {
	list, _ := v.([]any)
	return len(list)
}

// verify makes sure that both gateways do the same work: the same whole answer,
// though one writes null where the other leaves a member out.
func verify(ctx context.Context, p path, gateways ...*process) error {
	var first any
	for i, g := range gateways {
		answer, err := fetch(ctx, g, p.path)
		if err != nil {
			return fmt.Errorf("%s: GET %s: %w", g.name, p.path, err)
		}
		if !p.want(answer) {
			return fmt.Errorf("%s: GET %s: not the whole answer: %v", g.name, p.path, answer)
		}
		if i == 0 {
			first = answer
		} else if !reflect.DeepEqual(first, any(answer)) {
			return fmt.Errorf("GET %s: %s and %s answer differently:\n%v\n%v", p.path, gateways[0].name, g.name, first, answer)
		}
	}
	return nil
}

func fetch(ctx context.Context, g *process, path string) (map[string]any, error) {
	body, err := get(ctx, "http://"+g.addr+path, g.token)
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	withoutNulls(answer)
	return answer, nil
}

// withoutNulls removes the members that say nothing.
func withoutNulls(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member == nil {
				delete(v, name)
			}
			withoutNulls(member)
		}
	case []any:
		for _, element := range v {
			withoutNulls(element)
		}
	}
}
