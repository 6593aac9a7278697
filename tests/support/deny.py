"""Runs a program in which one system call fails: python3 deny.py NUMBER ERRNO PROGRAM ARGUMENTS…"""

import ctypes
import os
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
FAIL, ALLOW = 0x00050000, 0x7FFF0000

number, errno = int(sys.argv[1]), int(sys.argv[2])
steps = [(LOAD_NUMBER, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL | errno), (RETURN, 0, 0, ALLOW)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
word = ctypes.c_ulong
if LIBC.prctl(NO_NEW_PRIVS, word(1), word(0), word(0), word(0)) or LIBC.prctl(
    SECCOMP, word(FILTER), word(ctypes.addressof(head)), word(0), word(0)
):
    sys.exit("cannot install a seccomp filter")
os.execv(sys.argv[3], sys.argv[3:])
