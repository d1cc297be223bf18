package database

import (
	"database/sql"
	"errors"
	"fmt"
)

// Collect reads all rows of a query, given as QueryContext returned it, and
// closes them. What is what was being done, for the error.
func Collect[T any](what string, rows *sql.Rows, err error, read func(*sql.Rows) (T, error)) ([]T, error) {
	fail := func(err error) ([]T, error) { return nil, Unreachable(fmt.Errorf("%s: %w", what, err)) }
	if err != nil {
		return fail(err)
	}
	var out []T
	for rows.Next() {
		one, err := read(rows)
		if err != nil {
			return fail(errors.Join(err, rows.Close()))
		}
		out = append(out, one)
	}
	if err := errors.Join(rows.Close(), rows.Err()); err != nil {
		return fail(err)
	}
	return out, nil
}
