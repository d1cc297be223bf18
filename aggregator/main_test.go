package aggregator

import (
	"testing"

	"go.uber.org/goleak"
)

// No branch may outlive its call, in any test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
