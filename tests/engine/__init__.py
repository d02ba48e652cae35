"""Tests of the embedded engine. Time stands still in all of them, and is moved by hand."""
