//go:build tools

// Package tools pins mongodump and mongorestore, the peers that archives are tested with and that the benchmark
// compares with.
package tools

import (
	_ "github.com/mongodb/mongo-tools/mongodump"
	_ "github.com/mongodb/mongo-tools/mongorestore"
)
