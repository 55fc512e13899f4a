#!/bin/sh
# Copies a program that is written in Java, with all jars that it needs, once, into the user's cache: maven-tool.sh GROUP ARTIFACT VERSION
# Tests find them in disklift/ARTIFACT-VERSION there. Without Java or Maven one line says what will be missing; with CI set that is a failure.
set -eu

group=$1 artifact=$2 version=$3
directory="${XDG_CACHE_HOME:-$HOME/.cache}/disklift/$artifact-$version"
[ ! -e "$directory" ] || exit 0

if ! command -v java > /dev/null || ! command -v mvn > /dev/null; then
  if [ "$(id -u)" -ne 0 ] || ! "$(dirname "$0")/debian-packages.sh" java:default-jre-headless mvn:maven; then
    echo "SKIPPED: tests with $artifact: there is no Java and Maven to run it with (apt-get install default-jre-headless maven)" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
  fi
fi

echo "Copying $artifact $version"
mkdir -p "$(dirname "$directory")"
# Copied beside its final path and then renamed, so that it is never incomplete.
partial=$(mktemp -d "$directory.partial.XXXXXX")
trap 'rm -rf "$partial"' EXIT
cat > "$partial/pom.xml" << POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.disklift</groupId>
  <artifactId>tools</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>
  </dependencies>
</project>
POM
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
if ! mvn --quiet --batch-mode --file "$partial/pom.xml" "$plugin:copy-dependencies" -DincludeScope=runtime "-DoutputDirectory=$partial/jars" > "$partial/log" 2>&1; then
  cat "$partial/log" >&2
  exit 1
fi
mv "$partial/jars" "$directory"
