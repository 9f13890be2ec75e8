"""Runs the tests, or those whose names have one of the arguments in them: run.py [NAME]...

It fails if any does, and says why at once: a guest takes its time."""

import sys
import time
import unittest
from pathlib import Path


class Result(unittest.TextTestResult):
    def getDescription(self, test):
        if not isinstance(test, unittest.TestCase):
            return str(test)
        rule = test.id().split(".")[-1].removeprefix("test_").replace("_", " ")
        return f"{type(test).__name__}: {rule}"

    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self.stream.writeln(f"ok, {time.monotonic() - self._began:.0f} s")

    def addError(self, test, err):
        super().addError(test, err)
        self.stream.writeln(self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.stream.writeln(self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.stream.writeln(self._exc_info_to_string(err, test))

    def printErrors(self):
        """They were printed already."""


def main():
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in sys.argv[1:]] or None
    tests = loader.discover(str(Path(__file__).parent))
    runner = unittest.TextTestRunner(verbosity=2, resultclass=Result)
    return 0 if runner.run(tests).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
