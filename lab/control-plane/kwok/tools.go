//go:build tools

// Package tools names the command that the scale test builds, so that go.mod keeps its module.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
