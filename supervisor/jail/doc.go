// Package jail is the other side of the fork: it starts the command, with or
// without namespaces of its own, and ends every process that came of it.
//
// Go cannot run code between fork and exec, so depguard executes itself
// (/proc/self/exe) twice, with a name that no person types:
//
//		supervisor ── Start ──► init ── starts ──► enter ── becomes ──► the command
//
//	  - init is pid 1 of the jail's pid namespace, which reaps, and at whose end the
//	    kernel kills the rest. In plain audit there is no pid namespace: init is a
//	    child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) instead, and kills and
//	    reaps its descendants itself. It builds the view (mounts, network), makes
//	    the pseudo-terminal, forwards signals, and reports how the command ended.
//	  - enter drops capabilities, restricts itself with the guard, installs the
//	    filter, sends the listener to the supervisor, and executes the command.
//
// They talk over one SOCK_SEQPACKET pair: the supervisor holds one end, init and
// enter share the other.
//
//	init  → ready (with the pseudo-terminal's master)   the view stands
//	      ← proceed (with the guard's ruleset)           allowlist and witness are ready
//	enter → listener (with the filter's listener)        the supervisor answers from here on
//	enter → noexec                                       the command could not be executed
//	      ← signal                                       forward this one
//	init  → exited                                       the command's wait status
//
// Each end of the pair is the other's life line. When the supervisor dies, init
// reads end-of-file and ends the jail (with a pid namespace it gets SIGKILL through
// PR_SET_PDEATHSIG besides, and the kernel kills the rest); when init dies before its time, the supervisor, a subreaper too,
// inherits the orphans and ends them.
//
// Descriptors: the supervisor owns its end of the pair, the listener, the master
// and init's pidfd; init owns the slave until enter has it; enter closes the
// listener once it is sent, and all else is close-on-exec.
package jail
