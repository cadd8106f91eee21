%% @doc The supervisor.
-module(switchboard_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Directory = #{
        id => switchboard_directory, start => {switchboard_directory, start_link, []}
    },
    {ok, {#{}, [Directory]}}.
