package bpf

// The compiler is pinned, the debug information names no absolute path, and
// the machine that generates leaves no mark: equal sources give equal bytes,
// wherever the checkout is. CI regenerates and fails on a difference.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target amd64 witness witness.bpf.c -- -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Werror
