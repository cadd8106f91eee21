%% This project as a git repository, as others get it.
-module(repository).

-export([make/1, target/0, run/2]).

%% @doc Makes one with what is in the working tree, on the branch `main'.
-spec make(file:filename()) -> ok.
make(Repository) ->
    ok = filelib:ensure_path(Repository),
    Root = program:root(),
    Git = ["git", "--git-dir", Repository, "--work-tree", Root],
    Author = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=no"],
    ok = run(["git", "init", "--quiet", "--bare", "--initial-branch=main", Repository], Root),
    ok = run(Git ++ ["add", "--all"], Root),
    run(Git ++ Author ++ ["commit", "--quiet", "--no-verify", "--message", "As it is"], Root).

%% @doc Where cargo has built the other crates already.
-spec target() -> file:filename().
target() ->
    filename:join(program:root(), os:getenv("CARGO_TARGET_DIR", "target")).

%% @doc Runs a program that must succeed.
-spec run([string()], file:filename()) -> ok.
run(Command, Directory) ->
    {0, _} = testkit:run(Command, [{cd, Directory}, {env, program:environment([])}]),
    ok.
