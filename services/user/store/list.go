package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/database"
	"github.com/sluice-gateway/sluice/services/user/domain"
)

// List returns up to n users after a place, in the order of their creation: those
// whose e-mail address or display name contains filter, whatever its case.
func (s *Store) List(ctx context.Context, filter string, after kit.Cursor, n int) ([]domain.User, error) {
	query := `SELECT ` + columns + ` FROM users WHERE (create_time, user_id) > ($1, $2)`
	args := []any{after.Time.UnixMicro(), after.ID, n}
	if filter != "" {
		query += ` AND (email_key LIKE $4 ESCAPE '\' OR name_key LIKE $4 ESCAPE '\')`
		args = append(args, "%"+likeEscaper.Replace(domain.Fold(filter))+"%")
	}
	return s.query(ctx, query+` ORDER BY create_time, user_id LIMIT $3`, args...)
}

// likeEscaper makes LIKE take every character for itself.
var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// BatchGet returns those of the users that exist, by id, all as of one moment.
func (s *Store) BatchGet(ctx context.Context, ids []string) (map[string]domain.User, error) {
	args := make([]any, len(ids))
	marks := make([]string, len(ids))
	for i, id := range ids {
		args[i], marks[i] = id, fmt.Sprintf("$%d", i+1)
	}
	users, err := s.query(ctx, `SELECT `+columns+` FROM users WHERE user_id IN (`+strings.Join(marks, ", ")+`)`, args...)
	if err != nil {
		return nil, err
	}
	found := make(map[string]domain.User, len(users))
	for _, u := range users {
		found[u.ID] = u
	}
	return found, nil
}

func (s *Store) query(ctx context.Context, query string, args ...any) ([]domain.User, error) {
	rows, err := s.db.Read.QueryContext(ctx, query, args...)
	return database.Collect("list users", rows, err, func(rows *sql.Rows) (domain.User, error) { return scan(rows) })
}
