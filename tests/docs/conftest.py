"""What tests of the documentation share."""

from tests.browsing import browser as browser
